from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.web.form import build_form, change_list, read_form, schema, walk
from opcod.config import ExperimentConfig, ServerConfig, load_preset, parse_config


@pytest.fixture
def data() -> dict[str, Any]:
    return parse_config(load_preset("tiny")).model_dump(mode="json")


def sent(data: dict[str, Any]) -> list[tuple[str, str]]:
    """What a browser sends of the form that shows `data`."""
    return [(field.path, field.value) for field in walk(build_form(data).sections)]


def leaves(value: Any, path: str = "") -> set[str]:
    if isinstance(value, dict | list) and value:
        items = value.items() if isinstance(value, dict) else enumerate(value)
        return {found for key, below in items for found in leaves(below, f"{path}.{key}" if path else str(key))}
    return {path}


def test_every_setting_has_a_field_and_comes_back_as_it_was(data: dict[str, Any]) -> None:
    fields = {field.path for field in walk(build_form(data).sections)}
    assert leaves(data) <= fields
    assert read_form(sent(data)) == data


def test_a_students_server_is_switched_on_and_filled_in(data: dict[str, Any]) -> None:
    """As a browser does: the switch, then the form again with its fields, empty and required, then those filled in."""
    pairs = dict(sent(data))
    assert pairs["students.0.server"] == "false"
    shown = {field.path: field for field in walk(build_form(read_form({**pairs, "students.0.server": "true"}.items())).sections)}
    assert {shown[path].required for path in ("students.0.server.url", "students.0.server.model")} == {True}
    filled = {
        **{path: field.value for path, field in shown.items()},
        "students.0.server.url": "http://gpu:8000/v1",
        "students.0.server.model": "a",
    }
    first, second = parse_config(read_form(filled.items())).students[:2]
    assert (first.server, second.server) == (ServerConfig(url="http://gpu:8000/v1", model="a"), None)


@given(
    threshold=st.floats(0, 1e6),
    top_k=st.none() | st.integers(1, 10**6),
    tail=st.booleans(),
    adapters=st.none()
    | st.fixed_dictionaries({"rank": st.integers(1, 1024), "targets": st.lists(st.sampled_from("abc"), min_size=2, max_size=3)}),
    micro_batches=st.just("auto") | st.integers(64, 10**9),
    prompt=st.none()
    | st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=50).filter(lambda text: bool(text.strip())),
)
def test_any_valid_experiment_survives_the_form(
    threshold: float,
    top_k: int | None,
    tail: bool,
    adapters: dict[str, Any] | None,
    micro_batches: int | str,
    prompt: str | None,
) -> None:
    config = parse_config(load_preset("tiny")).model_dump(mode="json")
    config["method"]["gate"]["threshold"] = threshold
    config["method"]["loss"] |= {"top_k": top_k, "tail_bucket": tail}
    config["compute"] |= {"adapters": adapters, "micro_batch_tokens": micro_batches}
    config["domains"][0]["system_prompt"] = prompt
    wanted = parse_config(config)
    found = parse_config(read_form(sent(wanted.model_dump(mode="json"))))
    assert found.method.gate.threshold == pytest.approx(wanted.method.gate.threshold, rel=1e-11)
    exclude = {"method": {"gate": {"threshold"}}}
    assert found.model_dump(exclude=exclude) == wanted.model_dump(exclude=exclude)


def test_what_is_no_number_stays_text_for_validation_to_judge(data: dict[str, Any]) -> None:
    pairs = [*sent(data), ("schedule.rounds", "many"), ("method.gate.threshold", "0,2"), ("nowhere.at.all", "x")]
    found = read_form(pairs)
    assert found["schedule"]["rounds"] == "many"
    assert found["method"]["gate"]["threshold"] == "0,2"
    assert "nowhere" not in found


def test_a_fault_stands_beside_its_field_opens_its_section_and_is_counted(data: dict[str, Any]) -> None:
    form = build_form(data, [("evaluation.samples", "too few"), ("domains.1", "no such file"), ("beyond", "unknown")])
    [field] = [field for field in walk(form.sections) if field.path == "evaluation.samples"]
    assert field.error == "too few"
    section = next(section for section in form.sections if section.path == "evaluation")
    assert section.open
    assert section.faults == 1
    domain = next(section for section in form.sections if section.path == "domains").items[1]
    assert domain.error == "no such file"
    assert form.loose == (("beyond", "unknown"),)


def test_fields_carry_the_metadata_of_the_configuration(data: dict[str, Any]) -> None:
    fields = {field.path: field for field in walk(build_form(data).sections)}
    assert fields["generation.rollouts"].limits == "1 to 256"
    assert fields["compute.micro_batch_tokens"].limits == "At least 64"
    assert fields["generation.rollouts"].source == "paper"
    assert fields["generation.temperature"].limits == "Above 0, at most 5"
    assert fields["method.gate.threshold"].unit == "relative gap"
    assert fields["method.algorithm"].choices == ("opcod", "sdpo", "grpo")
    assert fields["domains.0.system_prompt"].kind == "long"
    assert fields["students.0.model"].required


def test_lists_grow_and_shrink_within_their_limits(data: dict[str, Any]) -> None:
    grown = change_list(data, "add:students")
    assert [student["name"] for student in grown["students"]] == ["student1", "student2", "student3"]
    assert [student["name"] for student in change_list(grown, "remove:students.0")["students"]] == ["student2", "student3"]
    assert change_list(change_list(grown, "remove:students.0"), "add:students")["students"][-1]["name"] == "student4"
    for nonsense in ("", "add:name", "remove:students.x", "add:students.0.name.deep", "drop:students.0"):
        assert change_list(data, nonsense)["students"] in (data["students"], grown["students"])
    students = next(section for section in build_form(data).sections if section.path == "students")
    assert not any(item.removable for item in students.items)
    assert students.extendable


KEYS = st.sampled_from(["students", "domains", "method", "gate", "name", "compute", "adapters"])
PLAIN = st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(KEYS, inner))
NAMES = st.sampled_from(["students.0.name", "students.99999.name", "compute.adapters", "domains.1.verifier.kind"])


@given(PLAIN)
def test_no_shape_of_data_breaks_the_form(data: Any) -> None:
    build_form(data if isinstance(data, dict) else {"students": data, "method": data, "domains": data, "compute": {"adapters": data}})


@given(st.lists(st.tuples(st.text(max_size=30) | NAMES, st.text(max_size=10))))
def test_no_sent_form_breaks_the_reader(pairs: list[tuple[str, str]]) -> None:
    assert set(read_form(pairs)) <= set(schema()["properties"])


def test_the_schema_is_the_configuration_s_own() -> None:
    assert set(schema()["properties"]) == set(ExperimentConfig.model_fields)
