"""Export formats and the results of the shipping gate in words."""

from app.domain.comparison.fairness.export_gate import ExportGate, GateOutcome
from app.domain.models.exports import ExportFormat
from app.features.shipping.rules.parity import Parity
from app.words.format import count, decimal, points_between
from app.words.i18n import gettext as _
from app.words.i18n import marked, ngettext

FORMAT_TITLES = {
    ExportFormat.ADAPTER: marked("Adapter"),
    ExportFormat.MERGED_FLOAT32: marked("Merged, float32"),
    ExportFormat.MERGED_BFLOAT16: marked("Merged, bfloat16"),
    ExportFormat.ONNX_INT8: marked("ONNX int8"),
}
FORMAT_NOTES = {
    ExportFormat.ADAPTER: marked("the trained tensors as the run saved them"),
    ExportFormat.MERGED_FLOAT32: marked("whole model for transformers, safetensors"),
    ExportFormat.MERGED_BFLOAT16: marked("whole model, merge computed in float32"),
    ExportFormat.ONNX_INT8: marked("dynamic quantization, for CPUs"),
}


def format_title(form: ExportFormat) -> str:
    """A format's name: `Merged, bfloat16`."""
    if form.gguf:
        return _("GGUF %(type)s", type=form.gguf)
    return _(FORMAT_TITLES[form])


def format_note(form: ExportFormat) -> str:
    """What a format holds."""
    if form.gguf:
        return _("one file with tokenizer, for llama.cpp")
    return _(FORMAT_NOTES[form])


def gate_difference(gate: ExportGate | Parity) -> str:
    """`−0.2 ± 0.4`, in points."""
    return points_between(gate.delta, gate.low, gate.high)


def gate_reason(gate: ExportGate) -> str:
    """What is wrong with an export, or what it may lose; empty where it passes."""
    if gate.weights and gate.weights.wrong:
        return ngettext(
            "%(num)s tensor differs from W + ΔW: %(name)s",
            "%(num)s tensors differ from W + ΔW, such as %(name)s",
            gate.weights.differing,
            name=gate.weights.wrong[0],
        )
    if gate.outcome is GateOutcome.FAIL:
        return _("loses at least %(points)s points", points=decimal(-100 * gate.high))
    if gate.outcome is GateOutcome.UNDECIDED:
        return _("may lose up to %(points)s points; more test items would decide", points=decimal(-100 * gate.low))
    return ""


def gate_unseen(gate: ExportGate) -> str:
    """What the check of weights cannot show; empty where it shows all."""
    if not gate.weights or not gate.weights.unseen:
        return ""
    return ngettext(
        "the weights cannot show whether the adapter is in %(num)s tensor; the scores decide",
        "the weights cannot show whether the adapter is in %(num)s tensors; the scores decide",
        gate.weights.unseen,
    )


def gate_agreement(gate: ExportGate) -> str:
    """`643 of 646`; empty where the run has no predictions."""
    if gate.same is None:
        return ""
    return _("%(same)s of %(items)s", same=count(gate.same), items=count(gate.items))


def gate_first_difference(gate: ExportGate) -> str:
    """Where generated text first differs; empty where it does not."""
    first = gate.first_difference
    if first is None:
        return ""
    end = _("end of text")
    return _(
        "first at token %(place)s of item %(item)s: %(run)r became %(export)r",
        place=first.token + 1,
        item=first.item,
        run=first.run or end,
        export=first.export or end,
    )


FILTERS = (
    format_title,
    format_note,
    gate_difference,
    gate_reason,
    gate_unseen,
    gate_agreement,
    gate_first_difference,
)
