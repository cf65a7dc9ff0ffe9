"""The tools: a study from its plan to its verdict. Each answers with sentences, and with the data of the REST API.

Every call passes through the REST API with the caller's token, so an agent may do and see what that user may, and a
look at results is an interim look as for a person: seeds that it adds raise the confidence of its next verdicts
(decision 13).
"""

import asyncio
import time
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

from fastmcp import FastMCP
from fastmcp.tools.base import ToolResult
from mcp.types import ToolAnnotations
from pydantic import Field

from app.features.agents.ask import Ask

INSTRUCTIONS = """Vezna trains full fine-tuning and LoRA or other PEFT methods on the same model, data and budget, and
says with a confidence interval whether their difference in quality lies within a margin. Use list_choices for the base
models and datasets, plan_study before submit_study, wait_for_study, then read_verdict. "Undecided" is a verdict: report
it. Adding seeds after results are visible is an interim look, which raises the confidence that the next verdicts need
from 95 % to 99 %, then to 99.8 %; so is cancelling a study then. Submitting studies until one of them looks significant
is not evidence."""
ENDED = ("finished", "cancelled")
LONGEST_WAIT = 50
PAUSE_SECONDS = 2.0
READS = ToolAnnotations(readOnlyHint=True)
CHANGES = ToolAnnotations(readOnlyHint=False, destructiveHint=False)

RequestKey = Annotated[
    str,
    Field(
        description="Of your choice, new for each request; a call that is repeated with it is accepted once.",
        max_length=100,
        pattern=r"^[\w-]*$",
    ),
]
StudyNumber = Annotated[int, Field(description="The study's number.", ge=1)]
Spec = Annotated[
    dict[str, Any],
    Field(
        description="A study: base_model, dataset, arms (each with a method: its kind and PEFT's own fields), seeds, "
        "training (transformers' TrainingArguments), margin_points. The first arm is the reference.",
        examples=[
            {
                "name": "Headlines",
                "base_model": "all-MiniLM-L6-v2",
                "dataset": "headlines",
                "arms": [{"method": {"kind": "full"}}, {"method": {"kind": "lora", "r": 8, "lora_alpha": 16}}],
                "seeds": [0, 1, 2],
                "training": {"num_train_epochs": 2},
                "margin_points": 3,
            }
        ],
    ),
]


def server(ask: Ask) -> FastMCP:
    """A server with every tool."""
    mcp: FastMCP = FastMCP("Vezna", instructions=INSTRUCTIONS, mask_error_details=True)

    @mcp.tool(annotations=READS)
    async def list_choices() -> ToolResult:
        """Base models, datasets and workers of this installation."""
        models, datasets, workers = await asyncio.gather(ask.get("/models"), ask.get("/datasets"), ask.get("/workers"))
        found = {"models": _items(models), "datasets": _items(datasets), "workers": _items(workers)}
        names = {kind: ", ".join(str(row.get("name", "")) for row in rows) or "none" for kind, rows in found.items()}
        return _answer([f"{kind.capitalize()}: {listed}." for kind, listed in names.items()], found)

    @mcp.tool(annotations=READS)
    async def list_studies(limit: Annotated[int, Field(ge=1, le=100)] = 20) -> ToolResult:
        """The newest studies, with their status."""
        page = await ask.get("/studies", limit=limit)
        lines = [f"Study {row['id']}, {row['name']}: {row['status']}." for row in page["items"]]
        return _answer(lines or ["There are no studies yet."], page)

    @mcp.tool(annotations=CHANGES)
    async def plan_study(spec: Spec) -> ToolResult:
        """Plan a study without queueing it: its runs, its train time, and the difference that it can detect beside its
        margin."""
        answer = await ask.post("/studies/plan", spec)
        plan = answer["plan"]
        seconds, power = plan["train_seconds"], plan["power"]
        lines = [
            f"{plan['runs']} runs and {_or_unknown(plan['trials'])} trials.",
            f"Training takes about {seconds:.0f} seconds in all." if seconds else "The train time is not known yet.",
            f"It detects {100 * power['detectable_difference']:.1f} points in about half of such cases; "
            f"the margin is {100 * power['margin']:g}.",
            answer["warning"],
            answer["refusal"],
        ]
        return _answer(lines, answer)

    @mcp.tool(annotations=CHANGES)
    async def predict_memory(spec: Spec) -> ToolResult:
        """Predict the peak memory and the train time of each arm on each worker and on well-known GPUs, with the
        settings that would make it fit."""
        report = await ask.post("/estimates", spec, wait=20)
        done = "Every estimate is ready." if report["settled"] else "Some estimates are in progress: ask again."
        return _answer([done], report)

    @mcp.tool(annotations=CHANGES)
    async def submit_study(
        spec: Spec,
        insist: Annotated[bool, Field(description="Queue it even if the estimates of memory refuse it.")] = False,
        request_key: RequestKey = "",
    ) -> ToolResult:
        """Queue every run of a study. The margin, the seeds and the metric are fixed from here on."""
        answer = await ask.post("/studies", spec, key=request_key, insist=insist)
        lines = [f"Study {answer['id']} is queued.", answer["warning"]]
        return _answer(lines, answer)

    @mcp.tool(annotations=READS)
    async def wait_for_study(
        study_id: StudyNumber, seconds: Annotated[int, Field(ge=0, le=LONGEST_WAIT)] = LONGEST_WAIT
    ) -> ToolResult:
        """Wait until a study has ended, or some seconds have passed; call it again while it runs."""
        until = time.monotonic() + seconds
        while True:
            study = await ask.get(f"/studies/{study_id}")
            if study["status"] in ENDED or time.monotonic() >= until:
                break
            await asyncio.sleep(PAUSE_SECONDS)
        runs = len(study["runs"]) + len(study["trials"])
        return _answer([f"Study {study_id} is {study['status']}: {study['done']} of {runs} runs have ended."], study)

    @mcp.tool(annotations=READS)
    async def read_verdict(study_id: StudyNumber) -> ToolResult:
        """The verdict: each arm compared with the reference, its interval, its costs, and what limits the verdict."""
        found = await ask.get(f"/studies/{study_id}/comparison")
        state = "" if found["complete"] else "Runs have not ended: this is not the final verdict."
        looks = (
            f"Interim looks: {found['interim_looks']}; confidence of all verdicts together: {found['confidence']:.1%}."
        )
        lines = [found["headline"], found["lead"], found["interval"], *found["caveats"], looks, state]
        return _answer(lines, found)

    @mcp.tool(annotations=READS)
    async def read_baselines(study_id: StudyNumber) -> ToolResult:
        """Whether fine-tuning helps at all: the base model and cheap predictors on the same test items."""
        found = await ask.get(f"/studies/{study_id}/comparison")
        kept = {name: found[name] for name in ("learning", "baselines", "best_baseline", "base_score")}
        lines = [
            f"{row['title']}: {100 * row['score']['mean']:.1f} points."
            if row["score"]
            else f"{row['title']}: {row['message']}"
            for row in found["baselines"]
        ]
        return _answer(lines or ["There are no baselines yet."], kept)

    @mcp.tool(annotations=READS)
    async def read_flips(
        study_id: StudyNumber,
        arm: Annotated[
            str, Field(description="An arm's title; by default the arm of the verdict.", max_length=500)
        ] = "",
        limit: Annotated[int, Field(ge=1, le=100)] = 20,
    ) -> ToolResult:
        """Test items that the reference and an arm answer differently, with the texts."""
        found = await ask.get(f"/studies/{study_id}/flips", arm=arm, limit=limit)
        return _answer([found["rule"], f"{found['total']} items of kind {found['kind']} in {found['arm']}."], found)

    @mcp.tool(annotations=CHANGES)
    async def add_seeds(
        study_id: StudyNumber, count: Annotated[int, Field(ge=1, le=100)], request_key: RequestKey = ""
    ) -> ToolResult:
        """Add seeds to every arm. Once results are visible this is an interim look: the next verdicts need a higher
        confidence."""
        study = await ask.post(f"/studies/{study_id}/seeds", {"count": count}, key=request_key)
        found = await ask.get(f"/studies/{study_id}/comparison")
        return _answer([f"{count} seeds were added to every arm.", _looks(found)], study)

    @mcp.tool(annotations=CHANGES)
    async def cancel_study(study_id: StudyNumber) -> ToolResult:
        """Cancel every run of a study that has not ended; results stay. Once results are visible this is an interim
        look: the verdicts need a higher confidence."""
        study = await ask.post(f"/studies/{study_id}/cancel")
        found = await ask.get(f"/studies/{study_id}/comparison")
        return _answer([f"Study {study_id} is {study['status']}.", _looks(found)], study)

    return mcp


def _answer(sentences: Iterable[str], data: dict[str, Any]) -> ToolResult:
    """The sentences that are not empty, a line each, beside the data."""
    return ToolResult("\n".join(line for line in sentences if line), data)


def _looks(comparison: Mapping[str, Any]) -> str:
    looks, confidence = comparison["interim_looks"], 100 * comparison["confidence"]
    return f"Interim looks: {looks}; the verdicts hold together at {confidence:g} % confidence."


def _items(answer: Any) -> list[dict[str, Any]]:
    return answer if isinstance(answer, list) else list(answer.get("items", []))


def _or_unknown(number: int | None) -> str:
    return "an unknown number of" if number is None else str(number)
