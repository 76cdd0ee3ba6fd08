"""What a session asks the service beside its jobs: account, models and prices, uploads. None of it is charged for."""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING

from hailuo_async._engine.spending_limit import Money
from hailuo_async._images.source import ImageSource
from hailuo_async._rules.task_ids import check_task_id, is_task_id
from hailuo_async.jobs import Job, check_job
from hailuo_async.outcomes import Account, Upload
from hailuo_async.prices import Estimate, ModelInfo

if TYPE_CHECKING:
    from hailuo_async._engine.engine import Engine


class ServiceCalls(abc.ABC):
    """The part of ``AsyncSession`` that has no jobs in it."""

    _money: Money

    @abc.abstractmethod
    def _running_engine(self) -> Engine:
        """The engine, if it is used where and while it may be. Raises ``SessionClosedError`` otherwise."""

    async def account(self) -> Account:
        """Whether the key is valid, and the balance in USD. Two requests, not charged for. Raises ``ServiceError``."""
        return await self._running_engine().calls.account()

    async def models(self) -> tuple[ModelInfo, ...]:
        """What the service offers now, with its prices: from then on this session's estimates are narrower.

        One request, not charged for. Raises ``ServiceError``.
        """
        return await self._running_engine().calls.models()

    def estimate(self, job: Job) -> Estimate:
        """What a job will cost, as ``hailuo_async.estimate`` says, and by what ``models`` has told this session."""
        return self._money.prices.estimate(check_job(job))

    def notice(self, task_id: str) -> None:
        """Takes a notice that a task may have ended, from a webhook's receiver. Never believed, nor charged for.

        ::

            async def hear(request):  # for a POST route of aiohttp.web, Starlette or FastAPI
                session.notice(request.headers.get("X-Modellix-Task-ID", ""))
                return Response(status=204)  # in Starlette and FastAPI: status_code=204

        A task of this session is queried at once, ahead of the others: at most once a second, and within what the
        request rate leaves to queries. A task of another session on the same journal is asked about by that one; of a
        flood of notices most are dropped. A notice about any other task, or what is no task id, costs no request.
        Polling finds the ends without a notice, as without a webhook. After the session's close a notice
        changes nothing. Raises ``SessionClosedError`` before it opens, and on another loop.
        """
        if is_task_id(task_id):
            self._running_engine().poller.notice_nowait(task_id)

    async def uploads(self) -> tuple[Upload, ...]:
        """What the team has uploaded: at most ten files, each for some seven days.

        One request, not charged for. Raises ``ServiceError``.
        """
        return await self._running_engine().calls.uploads()

    async def delete_upload(self, file_id: str) -> None:
        """Takes an upload off the service. No job that has yet to run may name it. One request, not charged for.

        Cancelled, it may be gone all the same. Raises ``ServiceError``, and ``JobError`` for what cannot be an upload's
        id, before anything is sent.
        """
        check_task_id(file_id, "file_id")
        await self._running_engine().calls.delete_upload(file_id)

    async def upload(self, image: ImageSource) -> str:
        """Puts an image on the service and returns its URL, which serves any number of jobs. Not charged for.

        The image is checked as for a job, and may have at most 16 MiB. Raises ``ImageError``, and a ``ServiceError`` if
        it was refused or cannot be known to have arrived; uploading again is safe. Cancelled, the file may be there all
        the same.
        """
        return await self._running_engine().calls.check_and_upload(image)
