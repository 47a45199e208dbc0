"""Provenance of one output as an in-toto Statement v1 with a SLSA provenance v1 predicate, which supply-chain tools read.

Nothing is signed here. A digest of several files (a folder, or an array with its header) is taken over lines of digest and name,
as `sha256sum` writes them; the annotations of such a dependency state this.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from boldscribe.machinery.errors import UserError
from boldscribe.machinery.provenance.digests import RECORD
from boldscribe.machinery.provenance.tree import Output, Tree

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://slsa.dev/provenance/v1"
NAMESPACE = "urn:boldscribe:"  # for this project's own types and identities
BUILD_TYPE = f"{NAMESPACE}job:v1"  # a job of a rule; its parameters are settings and wildcards
BUILDER = f"{NAMESPACE}recorder:v1"


def statement(tree: Tree, name: str) -> dict[str, Any]:
    """Return the statement about one output of a results tree.

    Args:
        tree: the tree.
        name: the output, as records name it.

    Returns:
        JSON content. The subject is the output; external parameters are its rule, wildcards and the settings that its job read;
        resolved dependencies are the job's inputs, the commit of its code, the lock and the packages; by-products are its record
        and the job's other outputs.

    Raises:
        UserError: no output of this name has a readable record.
    """
    output = tree.outputs.get(name)
    if output is None or output.record is None:
        raise UserError(name, "found no readable record of it; name an output of the run")
    record = output.record
    activity = record["activity"]
    return {
        "_type": STATEMENT_TYPE,
        "subject": [_descriptor(output.name, record["subject"]["sha256"])],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {"rule": activity["rule"], "wildcards": activity["wildcards"], "config": record["config"]},
                "internalParameters": {
                    "argv": activity["argv"],
                    "code_fingerprint": record["code"]["fingerprint"],
                    "hardware": {key: value for key, value in record["hardware"].items() if key != "machine"},
                    "randomness": record["randomness"],
                },
                "resolvedDependencies": _dependencies(tree, output),
            },
            "runDetails": {
                "builder": {"id": BUILDER},
                "metadata": {
                    "invocationId": job_name(record),
                    "startedOn": _timestamp(activity["started"]),
                    "finishedOn": _timestamp(activity["ended"]),
                },
                "byproducts": _byproducts(tree, output),
            },
        },
    }


def job_name(record: dict[str, Any]) -> str:
    """Return a job's unique name: rule, wildcards and start time."""
    activity = record["activity"]
    wildcards = ",".join(f"{key}={value}" for key, value in sorted(activity["wildcards"].items()))
    return f"{activity['rule']}({wildcards})@{activity['started']}"


def _dependencies(tree: Tree, output: Output) -> list[dict[str, Any]]:
    record: dict[str, Any] = output.record or {}
    found = []
    for slot, materials in sorted(record["materials"].items()):
        for material in materials:
            annotations: dict[str, Any] = {"input": slot} | {key: material[key] for key in ("asset", "manifest") if key in material}
            made = tree.outputs.get(material["path"])
            if made is not None and made.record is not None and len(made.record["subject"]["files"]) > 1:
                annotations["digest_of"] = "lines of digest and name of its files"
            found.append(_descriptor(material["path"], material["sha256"]) | {"annotations": annotations})
    code, environment = record["code"], record["environment"]
    if code["commit"] is not None:
        annotations = {"committed": code["committed"], "patch_sha256": code["patch_sha256"]}
        found.append({"name": "code", "digest": {"gitCommit": code["commit"]}, "annotations": annotations})
    if environment["lock_sha256"] is not None:
        found.append(_descriptor("requirements.lock", environment["lock_sha256"]))
    if (container := environment["container"]) is not None:
        algorithm, _, value = (container.get("digest") or "").partition(":")
        found.append({"uri": f"docker://{container['image']}"} | ({"digest": {algorithm: value}} if value else {}))
    for package, version in sorted(tree.shared("packages", environment["packages"]).items()):
        kind = "generic" if package == "python" else "pypi"
        found.append({"uri": f"pkg:{kind}/{package}@{version}"})
    return found


def _byproducts(tree: Tree, output: Output) -> list[dict[str, Any]]:
    """Return the record of an output, and the other outputs of its job."""
    name = job_name(output.record or {})
    others = [o for o in tree.outputs.values() if o.name != output.name and o.record is not None and job_name(o.record) == name]
    return [
        _descriptor(output.name + RECORD, output.record_sha256),
        *(_descriptor(other.name, other.record["subject"]["sha256"]) for other in others if other.record is not None),
    ]


def _descriptor(name: str, sha256: str) -> dict[str, Any]:
    return {"name": Path(name).as_posix(), "digest": {"sha256": sha256}}


def _timestamp(moment: str) -> str:
    return datetime.fromisoformat(moment).astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
