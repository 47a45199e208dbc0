"""The RO-Crate validator without network: the contexts that crates name come from `tests/contexts`."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from requests_cache import CachedSession
from rocrate_validator.models import Severity, ValidationSettings
from rocrate_validator.services import validate
from rocrate_validator.utils.http import HttpRequester
from urllib3 import HTTPResponse

PROFILE = "provenance-run-crate-0.5"
CONTEXTS = {
    "https://w3id.org/ro/crate/1.1/context": "ro-crate-1.1.jsonld",
    "https://w3id.org/ro/terms/workflow-run/context": "workflow-run.jsonld",
}


class Vendored(HTTPAdapter):
    """Answers from `tests/contexts`."""

    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:  # type: ignore[override]
        """The context with the address of the request."""
        content = (Path(__file__).parent / "contexts" / CONTEXTS[str(request.url)]).read_bytes()
        headers = {"Content-Type": "application/ld+json"}
        return self.build_response(request, HTTPResponse(BytesIO(content), headers, 200, preload_content=False))


def issues(crate: Path, cache: Path, severity: str = "REQUIRED") -> list[str]:
    """What is wrong with a crate, one line for each issue: `check, entity, message`.

    Args:
        crate: folder of the crate.
        cache: folder for the validator's cache, which the contexts are put into.
        severity: the least severe kind of rule that is checked: REQUIRED, RECOMMENDED or OPTIONAL.
    """
    with CachedSession(str(cache / "http"), backend="sqlite", expire_after=-1) as session:
        session.mount("https://", Vendored())
        for url in CONTEXTS:
            session.get(url).raise_for_status()
    HttpRequester.initialize_cache(cache_path=str(cache / "http"), offline=True)
    settings = ValidationSettings(
        rocrate_uri=str(crate),
        profile_identifier=PROFILE,
        requirement_severity=Severity[severity],
        offline=True,
        cache_path=cache / "http",
    )
    result = validate(settings)
    assert result.executed_checks, "nothing was checked"
    return [f"{issue.check.identifier}, {issue.violatingEntity}, {issue.message}" for issue in result.get_issues()]
