"""The image's recipe and the compose files, as far as a machine without Docker can tell; settings and their table; the audit."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from importlib.metadata import distribution, packages_distributions
from pathlib import Path

import compose_spec
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from app.cli.settings_table import BEGIN, END, markdown, present
from app.settings import PREFIX, WorkerSettings, read_settings
from opcod.errors import ConfigError
from tests.audit import report
from tests.compose import FILES, document, services

ROOT = Path(__file__).parents[3]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")


def stages() -> dict[str, str]:
    """Build stage -> its instructions."""
    parts = re.split(r"^FROM (\S+) AS (\S+)$", DOCKERFILE, flags=re.MULTILINE)
    return {name: f"FROM {base}\n{text}" for base, name, text in zip(parts[1::3], parts[2::3], parts[3::3], strict=True)}


def whole(stage: str) -> str:
    """A stage with all that it stands on."""
    text = stages()[stage]
    base = text.split()[1]
    return whole(base) + text if base in stages() else text


def test_the_dockerfile_passes_hadolint() -> None:
    hadolint = shutil.which("hadolint", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    if hadolint is None:
        pytest.skip("hadolint is not installed")
    result = subprocess.run([hadolint, "--no-color", str(ROOT / "Dockerfile")], capture_output=True, text=True)
    assert result.stdout == ""
    assert result.returncode == 0


@pytest.mark.parametrize("image", ["web", "worker-cpu", "worker-cuda"])
def test_an_image_runs_without_rights_or_tools_to_build_and_says_how_it_is(image: str) -> None:
    text = whole(image)
    assert text.rstrip().splitlines()[-1].startswith("USER 1") or "\nUSER 1" in stages()[image]
    assert "HEALTHCHECK" in text
    assert "uninstall" in text
    assert "pip" in text
    assert re.search(r"^FROM python:3\.\d+\.\d+-slim-\w+$", text, re.MULTILINE), "the base is pinned"


def test_the_web_image_holds_no_torch_and_no_worker() -> None:
    assert "COPY worker" not in whole("web")
    (installed,) = re.findall(r"install --editable '\.\[([\w,]+)\]'", stages()["build-web"])
    assert not {"worker", "train", "dev"} & set(installed.split(","))


def test_everything_that_is_copied_reaches_the_build() -> None:
    """.dockerignore lets nothing through that it does not name."""
    let_through = {line[1:] for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines() if line.startswith("!")}
    for sources in re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE):
        for source in sources.split():
            assert (ROOT / source).exists(), source
            assert source in let_through, source


@pytest.mark.parametrize("name", FILES)
def test_a_compose_file_is_one(name: str) -> None:
    compose_spec.PyCompose.from_json(json.dumps(document(name, {"POSTGRES_PASSWORD": "given"}))).validate()


def test_compose_builds_what_the_dockerfile_has_and_sets_what_the_settings_know() -> None:
    known = {f"{PREFIX}{name}".upper() for name in WorkerSettings.model_fields}
    for name in FILES:
        for service in services(name).values():
            assert service.get("build", {}).get("target", "web") in stages()
            given = {variable for variable in service.get("environment", {}) if variable.startswith(PREFIX)}
            assert given <= known


def test_no_secret_has_a_default_and_no_port_is_open_to_others() -> None:
    text = "".join((ROOT / name).read_text(encoding="utf-8") for name in FILES)
    assert not re.findall(r"\$\{\w*(?:PASSWORD|SECRET|TOKEN|KEY)\w*:?-", text)
    assert set(re.findall(r"\$\{POSTGRES_PASSWORD(:\?|[^:])", text)) == {":?"}
    for service in services("docker-compose.yml").values():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
        assert "no-new-privileges:true" in service["security_opt"]


def test_compose_refuses_to_start_without_a_password() -> None:
    with pytest.raises(KeyError, match="POSTGRES_PASSWORD"):
        document("docker-compose.yml", {})


def test_an_update_leaves_workers_the_time_to_give_their_runs_back() -> None:
    worker = services("docker-compose.yml")["worker"]
    assert int(worker["stop_grace_period"].removesuffix("s")) > float(worker["environment"]["OPCOD_DRAIN_SECONDS"])


ONLY = """
import sys
absent = set(sys.argv[1].split(","))
class Others:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in absent:
            raise ModuleNotFoundError(f"{name} is not installed with it", name=name)
sys.meta_path.insert(0, Others())
"""
ONLY_WEB = f"""{ONLY}
import app.main, app.cli.main, app.backups, app.processes.serving
app.main.create_app(app.main.Settings(home=sys.argv[2]))
"""
ONLY_A_WORKER = f"""{ONLY}
import importlib, pkgutil
import app.cli.main, worker
for module in pkgutil.iter_modules(worker.__path__, "worker."):
    importlib.import_module(module.name)
"""


def test_the_web_images_packages_are_all_that_the_server_needs(tmp_path: Path) -> None:
    """The same, told by what is imported: whatever the image's extras do not bring cannot be found."""
    (installed,) = re.findall(r"install --editable '\.\[([\w,]+)\]'", stages()["build-web"])
    absent = absent_with(installed.split(","))
    assert {"torch", "transformers"} <= absent
    runs_without(absent, ONLY_WEB, str(tmp_path))


def test_a_worker_with_vllm_needs_none_of_the_servers_packages() -> None:
    """vLLM wants another FastAPI than the server."""
    absent = absent_with(["vllm"]) - absent_with(["web"])
    assert {"fastapi", "uvicorn", "argon2"} <= absent
    runs_without(absent, ONLY_A_WORKER)


def absent_with(extras: Sequence[str]) -> set[str]:
    """Modules that an installation with these extras does not bring; what vLLM brings is not known here."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    waiting = [Requirement(line) for line in [*project["dependencies"], f"opcod-studio[{','.join(extras)}]"]]
    wanted: set[str] = set()
    done: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        requirement = waiting.pop()
        key = (canonicalize_name(requirement.name), frozenset(requirement.extras))
        if key in done or key[0] == "vllm":
            continue
        done.add(key)
        wanted.add(key[0])
        if key[0] == "opcod-studio":
            waiting += [Requirement(line) for extra in requirement.extras for line in project["optional-dependencies"][extra]]
            continue
        for line in distribution(requirement.name).requires or []:
            needed = Requirement(line)
            if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in {"", *requirement.extras}):
                waiting.append(needed)
    return {module for module, names in packages_distributions().items() if not {canonicalize_name(name) for name in names} & wanted}


def runs_without(absent: set[str], script: str, *arguments: str) -> None:
    command = [sys.executable, "-c", script, ",".join(sorted(absent)), *arguments]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-2000:]


def test_the_table_of_settings_in_the_docs_is_current() -> None:
    text = (ROOT / "docs" / "operate.md").read_text(encoding="utf-8")
    assert BEGIN + markdown() + END in text, "`make docs` brings it up to date"


def test_every_setting_says_what_it_means() -> None:
    assert [name for name, field in WorkerSettings.model_fields.items() if not field.description] == []


def test_a_password_in_an_address_is_not_told() -> None:
    settings = WorkerSettings(database_url="postgresql://opcod:geheim@db/opcod", broker_url="rediss://:geheim@broker:6379/0")
    told = present(settings)
    assert "geheim" not in json.dumps(told)
    assert told["OPCOD_DATABASE_URL"].endswith("@db/opcod")


def test_a_setting_that_cannot_be_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPCOD_PORT", "many")
    monkeypatch.setenv("OPCOD_BROKER_URL", "amqp://there")
    with pytest.raises(ConfigError, match=r"OPCOD_BROKER_URL: must be redis.*OPCOD_PORT: "):
        read_settings(WorkerSettings)


def test_the_audit_fails_for_a_known_advisory_only() -> None:
    sound = {"name": "a", "version": "1", "vulns": []}
    unknown = {"name": "b", "skip_reason": "Dependency not found on PyPI"}
    flawed = {"name": "c", "version": "2", "vulns": [{"id": "CVE-1", "fix_versions": ["3"]}]}
    assert report([sound, unknown]) == ("no advisory is known against 1 dependencies; not known to it: b", 0)
    assert report([unknown]) == ("not checked: offline, or the index has no advisories", 0)
    assert report([sound, flawed]) == ("1 known advisories:\nc 2: CVE-1, mended in 3", 1)
