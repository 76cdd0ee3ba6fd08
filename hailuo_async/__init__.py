"""Videos from images, through MiniMax's Hailuo models on the Modellix API: an asyncio client that never pays twice.

Everything public is imported from here. Start at ``AsyncSession``.
"""

from hailuo_async._edges.reader import Journal
from hailuo_async._edges.records import JournalState, Record
from hailuo_async._engine.generation import Generation
from hailuo_async.errors import (
    AuthenticationError,
    ConfigError,
    DownloadError,
    HailuoError,
    ImageError,
    InsufficientBalanceError,
    JobError,
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
from hailuo_async.images import ImageSource
from hailuo_async.jobs import FirstLastFrameToVideo, ImageToVideo, Job
from hailuo_async.models import MODELS, Model
from hailuo_async.outcomes import Account, Failure, Outcome, Resource, Stats, Status, Success, Video
from hailuo_async.session import AsyncSession

__all__ = [
    "MODELS",
    "Account",
    "AsyncSession",
    "AuthenticationError",
    "ConfigError",
    "DownloadError",
    "Failure",
    "FirstLastFrameToVideo",
    "Generation",
    "HailuoError",
    "ImageError",
    "ImageSource",
    "ImageToVideo",
    "InsufficientBalanceError",
    "Job",
    "JobError",
    "Journal",
    "JournalError",
    "JournalState",
    "Model",
    "Outcome",
    "ProtocolError",
    "QueueFullError",
    "RateLimitedError",
    "Record",
    "RequestRejectedError",
    "Resource",
    "ServiceError",
    "ServiceUnavailableError",
    "SessionClosedError",
    "SpendingLimitError",
    "Stats",
    "Status",
    "SubmissionUnknownError",
    "Success",
    "TaskExpiredError",
    "TaskFailedError",
    "UnknownCommandWarning",
    "Video",
    "WaitTimeoutError",
]
