"""Examples for the schema, made from the shapes themselves: what a field is called says what stands in it.

An example that a model states itself (`json_schema_extra`) goes before; where neither says anything
the type decides. Whatever comes out fits the schema, which a test checks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Schema = Mapping[str, Any]

AT = "2026-11-24T09:30:00Z"
HINTS: Mapping[str, Any] = {
    "name": "gate 0.2",
    "title": "The four gates",
    "owner": "ann",
    "person": "ann",
    "actor": "ann",
    "tags": ["ablation", "tau 0.2"],
    "status": "running",
    "from_status": "starting",
    "to_status": "running",
    "cause": "training began",
    "preset": "demo",
    "algorithm": "opcod",
    "strategy": "cognizance",
    "domains": ["densities", "protons"],
    "domain": "densities",
    "native_domain": "densities",
    "student": "student1",
    "tutee": "student1",
    "tutor": "student2",
    "phase": "student1",
    "model": "demo:densities",
    "train": "demo:densities:train",
    "validation": "demo:densities:validation",
    "test": "demo:densities:test",
    "verifier": "number",
    "split": "test",
    "round": 2,
    "rounds": 3,
    "step": 27,
    "steps": {"student1": 27, "student2": 20},
    "fraction": 0.39,
    "eta_seconds": 95.0,
    "queue_position": 1,
    "score": 0.94,
    "low": 0.91,
    "high": 0.97,
    "gap": 0.11,
    "threshold": 0.2,
    "questions": 69,
    "samples": 16,
    "majority_baseline": 0.09,
    "initial": {"densities": 0.87, "protons": 0.75},
    "latest": {"densities": 0.98, "protons": 0.9},
    "final": {"densities": 0.98, "protons": 0.9},
    "students": {"student1": True, "student2": True},
    "value": 0.042,
    "prompt": "What is the density of an alloy that is 3 denser than iron?",
    "answer": "11",
    "text": "iron is 8; 8 + 3 = 11 <answer> 11 </answer>",
    "raw": "<concept>density</concept> The density of iron is right, and so is the sum.",
    "concept": "density",
    "matched_word": "density",
    "removed": ["The correct option is 11."],
    "extracted": "11",
    "own_solution": "iron is 8; 8 + 3 = 11 <answer> 11 </answer>",
    "teacher_prompt": "What is the density of an alloy that is 3 denser than iron?\n\nFeedback: ...\n\nSolve the question.",
    "tokens": 24,
    "mean": 0.012,
    "max": 0.31,
    "labels": ["worth a look"],
    "label": "worth a look",
    "outcome": "kept",
    "outcomes": {"kept": 412, "no_match": 31, "no_concept_tag": 9},
    "path": "checkpoints/000040/manifest.json",
    "size_bytes": 3_012_345,
    "size": 18_204,
    "host": "gpu-1",
    "pid": 4242,
    "device": "cuda:0",
    "kind": "step_finished",
    "message": "A line is broken.",
    "advice": "Mend it and resume the run.",
    "error": None,
    "data": {"round": 2, "tutee": "student1", "step": 27},
    "config": {"schedule": {"rounds": 3}},
    "setting": "method.gate.threshold",
    "here": 0.2,
    "there": 0.4,
    "axes": ["method.gate.threshold"],
    "grid": {"method.gate.threshold": [0.1, 0.2, 0.4]},
    "overrides": [{"schedule": {"rounds": 5, "steps_per_round": 20}}],
    "values": {"method.gate.threshold": 0.2},
    "ablation": "gates",
    "next_cursor": "42",
    "waiting_for": None,
    "copied_from": None,
    "retried_as": None,
    "sweep_id": None,
    "url": "https://hooks.example.org/opcod",
    "field": "students.0.model",
}
OF_SHAPES: Mapping[str, Any] = {
    "Run.id": 3,
    "Run.name": "demo",
    "Run.archived": False,
    "Run.queue_position": None,
    "Run.ended_at": None,
    "Run.priority": 0,
    "NeedsShape.device": None,
    "NeedsShape.memory_gib": None,
    "NeedsShape.gpus": None,
    "RunStudent.name": "student1",
    "RunStudent.steps": 27,
    "Progress.steps": 120,
    "Progress.step": 47,
    "VerdictShape.mutual_improvement": None,
    "VerdictShape.students": {"student1": None, "student2": None},
    "RunChange.name": "tau 0.2",
    "QuestionShape.id": "densities-17",
    "RolloutShape.truncated": False,
    "FeedbackShape.text": "The density of iron is right, and so is the sum.",
    "Exchange.siblings": [11, 12],
    "Exchange.effect": None,
    "Comment.text": "The tutor talked it out of the right answer.",
    "NewComment.text": "The tutor talked it out of the right answer.",
    "View.name": "breaks on protons",
    "View.query": "domain=protons&effect=break",
    "NewView.name": "breaks on protons",
    "NewView.query": "domain=protons&effect=break",
    "FacetCount.value": "kept",
    "FacetCount.exchanges": 412,
    "Facet.name": "outcome",
    "Facets.total": 452,
    "Facets.more": False,
    "AlternativeShape.text": " 8",
    "AlternativeShape.student": 0.62,
    "AlternativeShape.teacher": 0.91,
    "TokensShape.texts": [" iron", " is", " 8"],
    "TokensShape.in_loss": [True, True, True],
    "TokensShape.student": [-0.021, -0.004, -0.478],
    "TokensShape.teacher": [-0.018, -0.004, -0.094],
    "TokensShape.divergence": [0.00003, 0.0, 0.03817],
    "TokensShape.weight": [1.0, 1.0, 1.0],
    "TokensShape.alternatives": [
        [{"text": " iron", "student": 0.979, "teacher": 0.982}],
        [{"text": " is", "student": 0.996, "teacher": 0.996}],
        [{"text": " 8", "student": 0.62, "teacher": 0.91}, {"text": " 5", "student": 0.31, "teacher": 0.06}],
    ],
    "Replay.state": "completed",
    "Replay.planned": ["question", "recorded", "edited"],
    "Replay.progress": 1.0,
    "Replay.change": 0.375,
    "Replay.note": "",
    "ReplayAsked.feedback": "Iron is right; add before you answer.",
    "ReplayAsked.weights": "checkpoint:7",
    "ReplayAsked.samples": 8,
    "ReplayArm.name": "edited",
    "ReplayArm.accuracy": 0.875,
    "ReplayArm.low": 0.53,
    "ReplayArm.high": 0.98,
    "ReplayAnswer.truncated": False,
    "LogPart.text": "round 2: student1 is tutored by student2\n",
    "StudentShape.name": "student1",
    "DomainShape.name": "densities",
    "DomainShape.upload_id": None,
    "DomainShape.owner": None,
    "UploadedFile.name": "physics.csv",
    "UploadedFile.rows": 720,
    "UploadedFile.split": "train",
    "ColumnShape.name": "question",
    "ColumnShape.kind": "text",
    "ColumnShape.filled": 720,
    "ColumnShape.example": "What is the net flux through the cube?",
    "KeptDomain.config": {
        "name": "physics",
        "train": "/var/lib/opcod/library/domains/physics-3f2a91c04b7e/train.jsonl",
        "validation": "/var/lib/opcod/library/domains/physics-3f2a91c04b7e/validation.jsonl",
        "test": "/var/lib/opcod/library/domains/physics-3f2a91c04b7e/test.jsonl",
    },
    "Guess.columns": {"id": "id", "prompt": "question", "answer": "label", "system": None, "solution": None},
    "Guess.verifier": {"kind": "multiple_choice"},
    "KeptDomain.questions": {"train": 647, "validation": 60, "test": 80},
    "KeptDomain.mended": {"leaks": 13},
    "HoldOut.validation": 60,
    "HoldOut.test": 0,
    "UploadMapping.name": "physics",
    "UploadMapping.columns": {"prompt": "question", "answer": "label", "id": None},
    "UploadMapping.verifier": {"kind": "multiple_choice"},
    "UploadMapping.system_prompt": "Answer with one letter in <answer> tags.",
    "UploadMapping.mend": ["leaks", "duplicates"],
    "MendShape.name": "leaks",
    "MendShape.rows": 13,
    "UploadQuestion.id": "physics-115",
    "UploadQuestion.system": "Answer with one letter in <answer> tags.",
    "Worker.name": "gpu-1:4242:cuda:0",
    "SweepProgress.points": 4,
    "SweepProgress.waiting": 1,
    "SweepProgress.active": 1,
    "SweepProgress.completed": 2,
    "SweepProgress.failed": 0,
    "SweepProgress.stopped": 0,
    "SweepProgress.deleted": 0,
    "SweepProgress.over": False,
    "SweepPoint.place": 0,
    "BreakRescueShape.difficulty": None,
    "BreakRescueShape.correct_before": 40,
    "BreakRescueShape.broken": 1,
    "BreakRescueShape.break_rate": 0.025,
    "BreakRescueShape.wrong_before": 20,
    "BreakRescueShape.rescued": 9,
    "BreakRescueShape.rescue_rate": 0.45,
    "ReportRun.mutual_improvement": True,
    "ReportRun.status": "completed",
    "ReportRun.wall_seconds": 312.5,
    "StreamEvent.id": 812,
    "DeliveryTry.status": 200,
    "DeliveryTry.seconds": 0.21,
    "DeliveryTry.answer": "ok",
}
"""Where the same name means something else in one shape."""
_JSON_TYPES: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "object": (dict,),
    "array": (list,),
    "null": (type(None),),
}
_DEEPEST = 12


def example(schema: Schema, components: Schema, name: str = "", depth: int = 0, shape: str = "") -> Any:
    """A value that fits `schema`, the field `name` of `shape`; `components` are the schemas that ``$ref`` may name."""
    if "$ref" in schema:
        target = schema["$ref"].rpartition("/")[2]
        return example(components[target], components, name if "enum" in components[target] else "", depth + 1, target)
    if schema.get("examples"):
        return schema["examples"][0]
    if "const" in schema:
        return schema["const"]
    options = schema.get("anyOf") or schema.get("oneOf")
    if options:
        return _of_options(options, components, name, depth)
    kind = schema.get("type")
    if "enum" in schema:
        return HINTS[name] if HINTS.get(name) in schema["enum"] else schema["enum"][0]
    if name in HINTS and _fits(HINTS[name], schema, kind):
        return HINTS[name]
    if kind == "object":
        return _object(schema, components, depth, shape)
    if kind == "array":
        return _array(schema, components, name, depth)
    return _plain(schema, kind, name)


def _of_options(options: list[Schema], components: Schema, name: str, depth: int) -> Any:
    """A field that may be several things: what its name says, else the first that is not null."""
    if name in HINTS and any(_fits(HINTS[name], option, option.get("type")) for option in options):
        return HINTS[name]
    first = next((option for option in options if option.get("type") != "null"), options[0])
    return None if depth > _DEEPEST else example(first, components, name, depth + 1)


def _object(schema: Schema, components: Schema, depth: int, shape: str) -> Any:
    if "properties" in schema:
        return {
            key: OF_SHAPES[f"{shape}.{key}"] if f"{shape}.{key}" in OF_SHAPES else example(below, components, key, depth + 1)
            for key, below in schema["properties"].items()
        }
    values = schema.get("additionalProperties")
    return {"student1": example(values, components, "", depth + 1)} if isinstance(values, Mapping) else {}


def _array(schema: Schema, components: Schema, name: str, depth: int) -> list[Any]:
    if "prefixItems" in schema:
        return [example(item, components, "", depth + 1) for item in schema["prefixItems"]]
    items = schema.get("items", {})
    return [] if depth > _DEEPEST else [example(items, components, name.removesuffix("s"), depth + 1)]


def _plain(schema: Schema, kind: Any, name: str) -> Any:
    if kind == "string":
        return AT if schema.get("format") == "date-time" else name.replace("_", " ") or "text"
    if kind == "boolean":
        return True
    if kind in ("integer", "number"):
        least = schema.get("minimum", schema.get("exclusiveMinimum", 0) + 1 if "exclusiveMinimum" in schema else 1)
        return max(least, 1) if schema.get("maximum", 1) >= 1 else least
    return None if kind == "null" else HINTS.get(name, "anything")


def _fits(value: Any, schema: Schema, kind: Any) -> bool:
    """Whether a hint is of the schema's own plain type; values of objects and arrays are looked into as deep as they go."""
    if "enum" in schema or "const" in schema:
        return value in schema.get("enum", [schema.get("const")])
    if not isinstance(kind, str) or not isinstance(value, _JSON_TYPES[kind]) or (isinstance(value, bool) and kind in ("integer", "number")):
        return False
    if isinstance(value, dict):
        below = schema.get("additionalProperties", True)
        return "properties" not in schema and (below is True or all(_deep(part, below) for part in value.values()))
    if isinstance(value, list):
        return all(_deep(part, schema.get("items", {})) for part in value)
    return True


def _deep(value: Any, schema: Schema) -> bool:
    if not schema:
        return True
    return any(_fits(value, option, option.get("type")) for option in schema.get("anyOf", [schema]) if "$ref" not in option)
