"""Test whether rows that share a forward pass have the same outputs as alone, which packing and padding-free batches
need. No architecture is named: each model is probed before training."""

from collections.abc import Callable
from typing import Any, NamedTuple

from app.domain.failures import FailureCode, RunFailed
from app.domain.messages import Message, _

PROBE_LENGTHS = (5, 3)
"""Lengths of the rows that probe a model, in tokens."""


class Probe(NamedTuple):
    """An option that has rows share a forward pass, its test, and the words of a refusal."""

    option: str
    refusal: Message
    """Says what the model cannot do."""
    alike: Callable[[Any], bool]
    """Whether rows of `PROBE_LENGTHS` have the same outputs together as alone."""
    raised: Message
    """Why, if the test raises."""
    differed: Message
    """Why, if the outputs differ."""

    def check(self, model: Any, max_length: int) -> None:
        """Raise `RunFailed(bad_configuration)` unless the rows are alike. What would need longer rows to show is read
        from the configuration: an attention window must not be shorter than a row."""
        config = model.config.get_text_config()
        windows = [getattr(config, name, None) for name in ("sliding_window", "attention_chunk_size", "window_size")]
        narrow = [window for window in windows if isinstance(window, int) and 0 < window < max_length]
        if narrow:
            raise self._refused(
                config,
                _("it attends to a window of %(window)s tokens", window=narrow[0]),
                _(
                    "Lower max_length from %(length)s to that, or leave %(option)s out",
                    length=max_length,
                    option=self.option,
                ),
            )
        training = model.training
        model.eval()
        try:
            alike = self.alike(model)
        except MemoryError:
            raise
        except Exception as error:  # an architecture may raise anything for inputs that it does not support
            raise self._refused(config, self.raised) from error
        finally:
            model.train(training)
        if not alike:
            raise self._refused(config, self.differed)

    def _refused(self, config: Any, why: Message, remedy: Message | None = None) -> RunFailed:
        text = _(
            "%(option)s: %(refusal)s for a model of type %(type)r, because %(why)s. %(remedy)s.",
            option=self.option,
            refusal=self.refusal,
            type=config.model_type,
            why=why,
            remedy=remedy or _("Leave %(option)s out", option=self.option),
        )
        return RunFailed(FailureCode.BAD_CONFIGURATION, text)
