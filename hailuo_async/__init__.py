"""Videos from images, through MiniMax's Hailuo models on the Modellix API: an asyncio client that never pays twice.

Everything public is imported from here. Start at ``AsyncSession``.
"""

from hailuo_async._engine.generation import Generation
from hailuo_async._engine.outcome_stream import OutcomeStream
from hailuo_async._images.source import ImageSource
from hailuo_async._io.journal.reader import Journal
from hailuo_async._io.journal.records import JournalState, Record
from hailuo_async.errors import (
    AuthenticationError,
    ConfigError,
    DownloadError,
    HailuoError,
    ImageError,
    InsufficientBalanceError,
    JobError,
    JobNotFoundError,
    JournalError,
    ProtocolError,
    QueueFullError,
    RateLimitedError,
    RequestRejectedError,
    ServiceError,
    ServiceUnavailableError,
    SessionClosedError,
    SpendingLimitError,
    SubmissionUnknownError,
    TaskExpiredError,
    TaskFailedError,
    UnknownCommandWarning,
    WaitTimeoutError,
)
from hailuo_async.hooks import (
    Accepted,
    Downloaded,
    Ended,
    GateClosed,
    Hook,
    Hooks,
    JobEvent,
    Queued,
    Refused,
    Sent,
    SessionEvent,
    StatusSeen,
)
from hailuo_async.jobs import FirstLastFrameToVideo, ImageToVideo, Job
from hailuo_async.models import MODELS, Model
from hailuo_async.outcomes import Account, Failure, Outcome, Resource, Stats, Status, Success, Upload, Video
from hailuo_async.prices import Estimate, ModelInfo, estimate
from hailuo_async.session import AsyncSession

__version__ = "0.1.0"

__all__ = [
    "MODELS",
    "Accepted",
    "Account",
    "AsyncSession",
    "AuthenticationError",
    "ConfigError",
    "DownloadError",
    "Downloaded",
    "Ended",
    "Estimate",
    "Failure",
    "FirstLastFrameToVideo",
    "GateClosed",
    "Generation",
    "HailuoError",
    "Hook",
    "Hooks",
    "ImageError",
    "ImageSource",
    "ImageToVideo",
    "InsufficientBalanceError",
    "Job",
    "JobError",
    "JobEvent",
    "JobNotFoundError",
    "Journal",
    "JournalError",
    "JournalState",
    "Model",
    "ModelInfo",
    "Outcome",
    "OutcomeStream",
    "ProtocolError",
    "QueueFullError",
    "Queued",
    "RateLimitedError",
    "Record",
    "Refused",
    "RequestRejectedError",
    "Resource",
    "Sent",
    "ServiceError",
    "ServiceUnavailableError",
    "SessionClosedError",
    "SessionEvent",
    "SpendingLimitError",
    "Stats",
    "Status",
    "StatusSeen",
    "SubmissionUnknownError",
    "Success",
    "TaskExpiredError",
    "TaskFailedError",
    "UnknownCommandWarning",
    "Upload",
    "Video",
    "WaitTimeoutError",
    "__version__",
    "estimate",
]
