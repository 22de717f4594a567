"""What can go wrong, and who should act on it.

    FerSearchError          the root: a message (what happened, what was expected) and a hint
    |-- InputError          a person asked for something impossible: exit status 2, no traceback
    |   |-- ConfigError     a parameter: unknown name, wrong value, contradiction
    |   |-- DataError       the data: missing, empty, unreadable, a class without images
    |   |-- HyperModelError a custom HyperModel: not found, or its models cannot be used
    |   |-- WeightsError    pretrained weights: missing, unreachable, or of another network
    |   `-- StoreError      Optuna's or MLflow's store: cannot be opened, or holds something else
    |-- PromotionRefused    the gate says no: exit status 3, nothing has changed
    |-- ExportFailed        an exported model does not answer like its original: exit status 1
    |-- StudyStopped        the study ended before its goal: exit status 1, resumable
    |-- SurroundingsError   a full disk, an unreachable store: exit status 4, resumable
    `-- TrialFailed         this trial is lost, the study goes on; `kind` says how

A pruned trial is not an error: the pruner's decision is raised as Optuna's own `TrialPruned`. What
other libraries raise when a store is unreachable or a disk is full is recognised by
`tracking/outage.py` (exit status 4); `study.leases.LeaseLost` stays within a worker. Every other
exception is a bug. It stops the worker with its traceback, because a bug must not look like a bad
hyperparameter.
"""

FAILURE_KINDS = ("out_of_memory", "not_finite", "killed", "hypermodel")
"""How a trial can be lost; the run's tag `failure.kind` is one of these."""


class FerSearchError(Exception):
    """An error with advice.

    Args:
        message: What happened and what was expected, with the offending value.
        hint: What the reader should do next; empty if nothing useful can be said.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\nHint: {self.hint}" if self.hint else self.message


class InputError(FerSearchError):
    """The request cannot be carried out as it was made."""


class ConfigError(InputError):
    """A parameter is unknown, malformed, or contradicts another one."""


class DataError(InputError):
    """The data are missing, empty, unreadable or incomplete."""


class HyperModelError(InputError):
    """A custom HyperModel cannot be loaded, or what it builds cannot be trained or stored."""


class WeightsError(InputError):
    """Pretrained weights are missing, unreachable, or belong to another network."""


class StoreError(InputError):
    """Optuna's storage or MLflow's store cannot be opened, or holds something else."""


class PromotionRefused(FerSearchError):
    """A model may not become the champion; the registry is unchanged."""


class ExportFailed(FerSearchError):
    """An exported model does not predict what the original does; nothing was written."""


class StudyStopped(FerSearchError):
    """The study ended before it had the requested number of trials; it can be resumed."""


class SurroundingsError(FerSearchError):
    """The machine or a store stops the program; neither program nor request is at fault."""


class TrialFailed(FerSearchError):
    """One trial is lost and the study goes on.

    Args:
        kind: One of `FAILURE_KINDS`.
        message: What happened.
        hint: What to do if it happens often.
    """

    def __init__(self, kind: str, message: str, hint: str = "") -> None:
        if kind not in FAILURE_KINDS:
            raise ValueError(f"unknown failure kind {kind!r}; known: {', '.join(FAILURE_KINDS)}")
        super().__init__(message, hint)
        self.kind = kind
