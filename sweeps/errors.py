"""What can go wrong in `sweeps`. The tree is the retry policy.

SweepError               the message is written for the person who reads it
  StudyError             the study file is wrong; mend it
  StoreError             results cannot be read or recorded; stop
    DamagedTrialError    one stored trial does not match its manifest; `run` computes it again
  BusyError              another driver works on this results directory
  MachineError           the cluster does not answer, or a machine of it lacks something
  InterruptedStudyError  the study was told to stop; the same command goes on
  WorkerFailedError      one trial failed, in one of its further workers
  TrialsFailedError      the study ended, but some trials failed; `run` tries them again
  FetchError             a download failed or is not what was published; `fetch` goes on from there
"""


class SweepError(Exception):
    """Root of every error that `sweeps` raises on purpose."""


class StudyError(SweepError):
    """The study file or a `--set` is wrong; the message names the field."""


class StoreError(SweepError):
    """The results directory cannot be read or written."""


class DamagedTrialError(StoreError):
    """A stored trial's files do not match its manifest."""


class BusyError(SweepError):
    """Another driver holds the results directory."""


class MachineError(SweepError):
    """The cluster does not answer, or its machines cannot run the trials."""


class InterruptedStudyError(SweepError):
    """The study was told to stop before its end; every trial can go on."""


class WorkerFailedError(SweepError):
    """A trial failed in one of its further workers; why is in `failed/`."""


class TrialsFailedError(SweepError):
    """Some trials failed; everything else is stored."""


class FetchError(SweepError):
    """A file cannot be had, is not the one published, or has no place to go."""
