"""What an experiment will take: counted from its settings, timed by what earlier runs took, and honest about what is not known."""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open

from opcod.config import AdaptersConfig, ExperimentConfig, load_preset, merge, parse_config
from opcod.estimation import leastsquares
from opcod.estimation.estimate import estimate, leave_one_out, shipped
from opcod.estimation.measured import MeasuredRun, Milestone, evaluation_times
from opcod.estimation.models import model_shape
from opcod.estimation.work import Sampling, sampling_features
from opcod.students.references import demo_folder


def tiny(**overrides: Any) -> ExperimentConfig:
    return parse_config(merge(load_preset("tiny"), overrides))


def slower(run: MeasuredRun, times: float) -> MeasuredRun:
    """The same run on a machine that takes so many times as long for everything."""
    students = tuple(
        student.model_copy(update={"means": {n: v * times if n.startswith("timing_s/") else v for n, v in student.means.items()}})
        for student in run.students
    )
    evaluations = tuple(one.model_copy(update={"seconds": one.seconds * times}) for one in run.evaluations)
    taken = {"students": students, "evaluations": evaluations, "startup": run.startup * times, "wall": run.wall * times}
    return run.model_copy(update={"device": "CPU, slow", "source": f"slow {run.source}", **taken})


def test_a_model_is_measured_by_its_files_alone() -> None:
    shape = model_shape("demo:densities")
    assert shape is not None
    with safe_open(demo_folder("demo:densities") / "model.safetensors", "np") as file:
        tensors = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
    assert shape.parameters == sum(prod(size) for size in tensors.values())
    assert (shape.layers, shape.attention, shape.key_value, shape.vocabulary) == (3, 128, 64, 248)


@pytest.mark.parametrize("targets", ["all-linear", ["q_proj", "v_proj"], r".*\.(q_proj|down_proj)"])
def test_adapters_are_counted_as_peft_makes_them(targets: str | list[str]) -> None:
    import torch

    from opcod.students.loading import load_student

    adapters = AdaptersConfig(rank=4, targets=targets)
    shape = model_shape("demo:densities")
    assert shape is not None
    model = load_student("demo:densities", device=torch.device("cpu"), dtype=torch.float32, adapters=adapters).model
    assert shape.trainable(adapters) == sum(p.numel() for p in model.parameters() if p.requires_grad)


@given(st.lists(st.floats(0.01, 10), min_size=3, max_size=3), st.randoms(use_true_random=False))
def test_least_squares_finds_the_weights_that_made_the_times(weights: list[float], random: Any) -> None:
    rows = [[random.uniform(0.1, 5) for _ in weights] for _ in range(12)]
    seconds = [sum(w * x for w, x in zip(weights, row, strict=True)) for row in rows]
    found = leastsquares.fit(rows, seconds)
    assert all(weight >= 0 for weight in found)
    predicted = [sum(w * x for w, x in zip(found, row, strict=True)) for row in rows]
    assert predicted == pytest.approx(seconds, rel=0.02)


def test_least_squares_leaves_what_was_not_seen_as_it_was_known() -> None:
    found = leastsquares.fit([[1.0, 0.0], [2.0, 0.0]], [2.0, 4.0], towards=[1.0, 7.0], pull=0.0)
    assert found == pytest.approx([2.0, 7.0])


def test_sampling_costs_calls_by_the_batch_and_work_by_the_token() -> None:
    shape = model_shape("demo:densities")
    assert shape is not None
    one = sampling_features(shape, Sampling(prompts=8, each=4, prompt=20, response=10, longest=16, batch_size=32))
    two = sampling_features(shape, Sampling(prompts=8, each=4, prompt=20, response=10, longest=16, batch_size=16))
    assert two[0] == 2 * one[0] == 2 * 16 * shape.layers
    assert two[2] == one[2]


def test_scorings_are_timed_from_the_event_before_to_their_last_result() -> None:
    told = [
        Milestone("run_started", 5.0),
        Milestone("evaluation_finished", 9.0, 0, "test"),
        Milestone("evaluation_finished", 9.5, 0, "test"),
        Milestone("round_started", 9.6, 1),
        Milestone("evaluation_finished", 11.6, 0, "validation"),
        Milestone("step_finished", 20.0, 1),
        Milestone("evaluation_finished", 22.0, 1, "validation"),
        Milestone("evaluation_finished", 26.0, 1, "test"),
    ]
    assert evaluation_times(told) == [("test", 4.5), ("validation", pytest.approx(2.0)), ("validation", 2.0), ("test", 4.0)]


def test_shipped_runs_predict_each_other() -> None:
    errors = leave_one_out(shipped(), ())
    assert len(errors) == len(shipped())
    assert sorted(abs(error) for error in errors)[len(errors) // 2] < 0.5  # measured beside other work; one's own runs decide later


def test_a_device_s_own_runs_teach_its_speed() -> None:
    run = next(one for one in shipped() if one.source == "demo, one round")
    known = estimate(run.settings, device="CPU, slow", history=[slower(run, 3.0)])
    assert known.seconds.value == pytest.approx(3 * run.wall, rel=0.2)
    assert known.basis.own_runs == 1
    alone = estimate(run.settings, device="CPU, other")
    assert "No run has been measured on CPU, other" in alone.seconds.reason
    assert _width(known.seconds) < _width(alone.seconds)


def test_tokens_are_counted_as_the_method_samples_them() -> None:
    made = estimate(tiny(method={"gate": {"strategy": "always"}}))
    student = next(run for run in shipped() if run.source == "tiny").students[0].means
    rollouts = 2 * 2 * 3 * 6 * 4  # students, rounds, steps, questions, rollouts
    untutored = estimate(tiny(method={"algorithm": "sdpo"}))
    assert untutored.training_tokens.value == pytest.approx(rollouts * student["response/length_mean"], rel=0.15)
    feedback = (made.training_tokens.value or 0) - (untutored.training_tokens.value or 0)
    assert rollouts < feedback <= rollouts * 32  # one to each, of at most 32 tokens
    assert (made.tokens.value or 0) > (made.training_tokens.value or 0)


def test_more_of_everything_takes_more() -> None:
    small, large = estimate(tiny()), estimate(tiny(schedule={"rounds": 4}, generation={"rollouts": 8}, recording={"keep_checkpoints": 5}))
    for name in ("seconds", "disk_bytes", "tokens", "training_tokens"):
        assert getattr(large, name).value > getattr(small, name).value, name
    adapted = estimate(tiny(compute={"adapters": {"rank": 4}}))
    assert (adapted.disk_bytes.value or 0) < (small.disk_bytes.value or 0)


def test_a_model_that_is_not_here_is_not_guessed_at() -> None:
    config = tiny(students=[{"name": "a", "model": "org/unseen"}, {"name": "b", "model": "demo:protons"}])
    made = estimate(config)
    for figure in (made.seconds, made.memory_bytes, made.disk_bytes):
        assert figure.value is figure.low is figure.high is None
        assert "org/unseen" in figure.reason
    assert made.parts == []
    assert made.training_tokens.value is not None
    assert any("how long these students answer" in note for note in made.notes)


def test_a_gpu_that_nobody_measured_has_no_times() -> None:
    made = estimate(tiny(compute={"device": "cuda"}), device="NVIDIA H100, 80 GiB")
    assert made.seconds.value is None
    assert "GPU" in made.seconds.reason
    assert made.memory_bytes.value is not None
    assert "micro-batches grow" in made.memory_bytes.reason
    assert "micro-batches grow" not in estimate(tiny(compute={"device": "auto"}), device="CPU, known").memory_bytes.reason


def test_data_on_the_hub_leaves_scoring_unknown(tmp_path: Path) -> None:
    domain = {"name": "one", "train": "hub:a/b:train", "validation": "hub:a/b:validation", "test": "hub:a/b:test"}
    students = [{"name": name, "model": "demo:densities"} for name in ("a", "b")]
    made = estimate(
        parse_config(merge(load_preset("tiny"), {"domains": [domain], "students": students, "evaluation": {"test_questions": None}}))
    )
    assert made.seconds.value is None
    assert "hub" in made.seconds.reason


def _width(figure: Any) -> float:
    return float(figure.high / figure.low)
