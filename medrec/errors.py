"""What can go wrong in `medrec`, and whether trying again can help.

MedrecError                 the message is written for the person who reads it
  InputError                a file, line or field given by the user is wrong; mend it
    CohortError             a cohort folder is damaged, outdated or not the one expected
    KnowledgeError          a knowledge table (interactions, structures, mappings) is wrong
      MissingSourceError    the file of a source is not there; what needs it can be left out
    ConfigError             a setting is wrong; retrying cannot help
      UnknownPluginError    no model, dataset, metric, ... of that name
  TrialError                one trial failed; the sweep goes on
    NonFiniteLossError      the loss became NaN or infinite; the same spec will fail again
    CheckpointError         a checkpoint does not fit its trial; training starts anew
    LostWorkerError         another worker of the trial is gone; trying again can help
  Interrupted               no failure: the trial stopped when told to, and goes on later
"""


class MedrecError(Exception):
    """Root of every error that `medrec` raises on purpose."""


class InputError(MedrecError):
    """The user's input is wrong: the message names file, line or field, value and remedy."""


class CohortError(InputError):
    """A cohort folder is missing, damaged, of another schema or of another fingerprint."""


class KnowledgeError(InputError):
    """A knowledge table is missing or malformed."""


class MissingSourceError(KnowledgeError):
    """A source's file is not in the folder given."""


class ConfigError(InputError):
    """A setting is out of its range or unknown."""


class UnknownPluginError(ConfigError):
    """No plug-in of that name exists; the message suggests the nearest one."""


class TrialError(MedrecError):
    """One trial failed; others are not concerned."""


class NonFiniteLossError(TrialError):
    """The training loss became NaN or infinite."""


class CheckpointError(TrialError):
    """A checkpoint does not belong to the trial that reads it, or is damaged."""


class LostWorkerError(TrialError):
    """Another worker of a data-parallel trial ended or does not answer."""


class Interrupted(MedrecError):  # noqa: N818  nothing went wrong
    """The trial stopped because it was told to; its checkpoint holds all that it did."""
