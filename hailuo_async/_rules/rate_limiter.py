"""A rate limiter for requests, which learns the limit from the headers and the refusals of the service's answers.

The service counts the requests of a key, submits and queries together. Its documents name a limit a minute, but not
how the minute is counted, and gateways before it may count in their own way. Headers are advisory: any may be missing,
stale, wrong, or about the requests of another program with the same key. So the rate limiter assumes one of two ways of
counting, and changes to the other when the answers contradict it.

**Windows**: so many requests until a moment, and then as many again. The rate limiter assumes this first. It keeps its
own count beside the service's (less the requests that the service cannot have counted yet), and obeys the lower one. A
part of the window may be spent at once, the rest evenly until its end. The reset identifies the window: a later reset
opens the next window, an earlier one is stale. The answer's ``Date`` or a span gives the reset in loop time. Both count
whole seconds, so each answer gives a bound that is up to two seconds late, and the earliest bound counts. A reset that
lies before the request was sent shows that its clock is behind that of the dates, and by how much. The distance between
two resets is the window's length. Where answers name no reset, a count that jumps to full opens a window.

**An even rate**: so many requests a second (``_rules/even_rate`` measures or finds how many). The rate limiter assumes
this when the count grows though no window opens (sliding windows and token buckets do that), when a new reset brings no
new requests, when windows are too short to place their ends, and when the service refuses and no header gives a count.
The number of requests left, as the service says it, is then only a cap.

**Reserve.** A query leaves enough for the submit that it may lead to, and for those of the queries in flight: no slot
stands empty because polling spent the requests. Queries that are booked for later delay no submit.

**Closed.** A 429 closes the gate for everyone, once: refusals of requests that had left before do not extend it. In a
window it closes until the reset. At an even rate, or if the service says that requests are left, it closes for a second
or as advised, and for twice as long after each further refusal in a row. ``Retry-After: 0`` closes for a pause, too. So
does a refusal in a window of which no reset is known; from the third in a row on the window is taken to be spent.

Invariants: a window grants no more than its limit; a returned time is either not after ``now``, or at least a tick and
at most five minutes after it.
"""

from __future__ import annotations

import math

import attrs

from hailuo_async._rules.even_rate import LEAST_RATE, LONGEST_PAUSE_S, TICK_S, EvenRate, Use
from hailuo_async._rules.rate_headers import RateHeaders
from hailuo_async.contract import WINDOW_S

#: Nothing closes the gate for longer than this: no reset that lies further ahead is believed.
_LONGEST_S = 300.0

#: Resets count whole seconds: the window may end this much later than they say, and spans name it this inexactly.
_MARGIN_S, _SPAN_MARGIN_S = 1.0, 1.5

#: A reset without a unit that is larger than this counts milliseconds.
_SECONDS_BELOW = 90.0

#: However many submits are expected, queries get this share of the requests: each job needs one at least.
_LEAST_SHARE = 1 / 3

#: Seconds to close after a window's 429 that says nothing: as at an even rate up to the first, as there may be no
#: reason, and then the second each time.
_CHANCE_S, _CLOSE_S = 2.0, 15.0

#: One sign against windows outweighs so many for them: a sliding count may look full at every other opening. A window
#: has just opened if no more seconds of it are over.
_SIGN, _OPENING_S = 2, 3.0

#: Windows up to this length become an even rate, this part of their limit: their ends are placed too inexactly.
_SHORT_S, _SHORT_SHARE = 12.0, 0.98

#: A lag that no answer has shown for so long is over. It shows at the end of each window, if requests leave then.
_LAG_S = 2 * WINDOW_S


@attrs.define(kw_only=True, eq=False)
class RateLimiter(EvenRate):
    """Grants requests, counts them, and learns from the answers. All times are loop seconds."""

    _limit: int | None = None  # requests in a window, as the service says

    # The window
    _counted: int = 0  # requests of ours that count, or may count, in this window
    _carried: int = 0  # those of them that left before it began
    _start: float = -math.inf
    _end: float = -math.inf
    _reset_at: float | None = None  # the server's name for this window, once an answer gave it
    _last_reset_at: float = -math.inf  # the name of the window before
    _window_s: float = WINDOW_S  # the shortest distance of two resets that were seen
    _lag_s: float = 0.0  # how far the clock of the resets is behind that of the dates
    _lag_at: float = -math.inf  # when an answer last showed all of it
    _is_ms: bool = False  # whether resets without a unit count milliseconds
    _booked_until: float = -math.inf  # the latest time that was booked for a query
    _full_at: float = -math.inf  # when a count without a reset last jumped to full
    _signs: int = 0  # that this is no window

    # Closed
    _closed_until: float = -math.inf

    @property
    def closed_until(self) -> float | None:
        """Until when a 429 has closed, or had closed, the gate; ``None`` if none ever did."""
        return None if self._closed_until == -math.inf else self._closed_until

    def remaining(self, now: float) -> int | None:
        """Requests left by the lower count; ``None`` while no limit is known."""
        if self._rate is not None:
            return None if self._reported is None else max(0, math.floor(self._level(now)))
        self._roll(now)
        return self._left()

    def may_send(self, now: float, use: Use) -> float:
        """When such a request may leave: at once, if not after ``now``. A later time is a time to call again."""
        if now < self._closed_until:
            return self._closed_until
        if self._rate is None:
            opens_at = self._window_opens_at(now, use)
        else:
            opens_at = self._rate_opens_at(now, use)
            if self._end > now:  # a reset brings one request at least
                opens_at = min(opens_at, max(self._end, self._next_at))
        return now if opens_at <= now else min(max(opens_at, now + TICK_S), now + _LONGEST_S)

    def sent(self, now: float, use: Use, at: float = -math.inf) -> None:
        """Counts a request that leaves now, or is booked for ``at``, even if it fails; ``learn`` must follow, once."""
        self._roll(now)
        if at > self._booked_until:
            self._booked_until = at
        if self._rate is not None:
            self._put_off_next(now)
        self._last_sent_at = now
        if self._recovered_at == -math.inf:
            self._recovered_at = now
        self._inflight += 1
        self._counted += 1
        self._slack = max(self._slack, self._inflight)

    def can_book(self, at: float, latest: float) -> bool:
        """Whether ``at``, from ``may_send``, is the time of a request that leaves by an even spread over this window.

        Counted beforehand, by ``sent``, the request has that time for itself. ``latest``: not for later ones.
        """
        return self._rate is None and self._closed_until < at < self._end and at <= latest

    def learn(self, now: float, headers: RateHeaders, sent_at: float) -> None:
        """Learns from the answer to the request of ``sent_at``, in any order; ``RateHeaders()`` if it failed."""
        self._inflight = max(0, self._inflight - 1)
        self._answered += 1
        self._note_recovery(now, sent_at)
        self._roll(now)
        if headers.limit is not None and headers.limit != self._limit:
            self._limit, self._full = headers.limit, 0
        ahead_s = self._ahead_s(now, headers, sent_at)
        if self._rate is not None and ahead_s is not None:
            self._end = now + ahead_s + _MARGIN_S
        if self._rate is None and not self._belongs(now, headers, ahead_s, sent_at):
            return
        if headers.remaining is None:
            self._learn_no_count(now)
        else:
            self._learn_count(now, headers.remaining, ahead_s, sent_at)

    def _learn_no_count(self, now: float) -> None:
        if self._rate is None and self._reported is not None:
            self._reported = max(0, self._reported - 1)  # the request has used one all the same
        elif self._rate is not None and now > self._reported_at + WINDOW_S:
            self._reported = None  # the headers have stopped

    def _learn_count(self, now: float, remaining: int, ahead_s: float | None, sent_at: float) -> None:
        if self._rate is None:
            self._reported = remaining if self._reported is None else min(self._reported, remaining)
        if sent_at < self._newest_at:
            return  # a request that left later was answered before
        self._newest_at, self._full = sent_at, max(self._full, remaining)
        if self._rate is None:
            self._check_window(now, remaining, ahead_s)
        elif not self._check_rate(now, remaining):
            self._measure(now, remaining)

    def refused(self, now: float, headers: RateHeaders, sent_at: float) -> None:
        """Closes the gate after a 429 for requests, unless the request had left before the gate was last closed."""
        if sent_at < self._closed_at:
            return  # it left before the last refusal came, so it was refused for the same reason
        if self._rate is None and self._reported is None and self._reset_at is None:
            # Nothing is known of this window. Where nothing was ever known, no header will help.
            self._signs += _SIGN
            if self._limit is None or self._signs > _SIGN:
                self._begin_rate(now, 0.0)
        if self._rate is not None:
            self._lower_rate(now)
        self._closed_until = min(self._closes_until(now, headers), now + _LONGEST_S)
        self._closed_at, self._answers = now, 0

    def _closes_until(self, now: float, headers: RateHeaders) -> float:
        """Until when a refusal closes the gate, and in a window that is spent, when that ends."""
        advised = now if headers.retry_after_s is None else now + headers.retry_after_s
        pause_s = self._next_pause_s()
        if self._rate is not None:
            return advised if advised > now else now + min(LONGEST_PAUSE_S, pause_s)
        if headers.retry_after_s == 0 or (self._reported is not None and self._left()):
            return max(advised, min(self._end, now + pause_s))
        until = max(advised, self._end if self._reset_at is not None else now)
        until = until if until > now else now + (pause_s if pause_s <= _CHANCE_S else _CLOSE_S)
        self._end = min(until, now + _LONGEST_S)
        return self._end

    def query_rate(self, now: float, submit_rate: float) -> float | None:
        """Queries per second that may leave besides ``submit_rate``; ``None``: any number."""
        if self._rate is not None:
            whole = self._planned(now)
        else:
            self._roll(now)
            left = self._left()
            if left is None:
                return None
            # The rest of this window and all of the next, over the time of both: a rate from this window alone would
            # jump at each opening, and the polls with it.
            limit = self._limit if self._limit is not None else max(left, self._full)
            if limit == 0:
                return None  # only "none left" was ever said: the next window has some, and no answer says how many
            whole = (left + limit) / (max(0.0, self._end - now) + self._window_s)
        return max(whole - submit_rate, _LEAST_SHARE * whole, LEAST_RATE)

    # --- A window ---

    def _window_opens_at(self, now: float, use: Use) -> float:
        self._roll(now)
        left = self._left()
        if left is None:
            return now
        return self._end if left <= self._reserve(use, self._counted + left) else self._evenly_at(now, use, left)

    def _left(self) -> int | None:
        counts = []
        if self._limit is not None:
            counts.append(self._limit - self._counted)
        if self._reported is not None:
            counts.append(self._reported - self._inflight)
        return max(0, min(counts)) if counts else None

    def _evenly_at(self, now: float, use: Use, left: int) -> float:
        """When the next request may leave, if those after the burst are spread evenly up to the window's end."""
        whole, number = self._counted + left, self._counted + 1.0
        burst, length_s = _burst(use, whole), self._end - self._start
        if use is Use.SUBMIT and self._booked_until > now:  # queries that are booked for later do not delay it
            number -= (whole - _burst(Use.QUERY, whole)) * (self._booked_until - now) / length_s
        return self._start if number <= burst else self._start + length_s * (number - burst) / (whole - burst)

    def _roll(self, now: float) -> None:
        """Begins a window when the last is over. Until an answer gives its end, it ends as late as a window can."""
        if now < self._end or self._rate is not None:
            return
        if self._reset_at is not None:
            self._last_reset_at = self._reset_at
        self._open(now)

    def _open(self, now: float) -> None:
        self._start, self._end, self._reset_at = now, now + self._window_s, None
        # What left in the last window may arrive in this one. What left before that cannot: no answer takes so long.
        self._carried = min(self._inflight, self._counted - self._carried)
        self._counted, self._reported, self._mark = self._carried, None, None
        self._booked_until = -math.inf

    def _open_full(self, now: float, remaining: int) -> None:
        """Begins a window of which only the count tells, by the answer to its first request."""
        self._window_s = min(self._window_s, max(_MARGIN_S, now - self._full_at))
        self._open(now)
        self._full_at, self._counted, self._reported = now, self._counted + 1, remaining

    def _belongs(self, now: float, headers: RateHeaders, ahead_s: float | None, sent_at: float) -> bool:
        """Whether the headers are about this window; places its end, and opens the next if they are about that."""
        reset_at, margin_s = headers.reset_at, _MARGIN_S
        if reset_at is None and ahead_s is not None:
            reset_at, margin_s = (headers.date if headers.date is not None else now) + ahead_s, _SPAN_MARGIN_S
        if reset_at is None:
            return sent_at >= self._start
        ends_at, name = now + (self._window_s if ahead_s is None else ahead_s + _MARGIN_S), self._reset_at
        if name is not None and abs(reset_at - name) <= margin_s:
            self._end = min(self._end, ends_at)
            return True
        if self._is_stale(reset_at, margin_s, headers.remaining, sent_at):
            return False
        if name is not None:
            self._last_reset_at = name
            self._open(now)
            self._counted += 1
        if reset_at > self._last_reset_at:
            self._window_s = min(self._window_s, max(_MARGIN_S, reset_at - self._last_reset_at))
        self._reset_at, self._end = reset_at, ends_at
        return True

    def _is_stale(self, reset_at: float, margin_s: float, remaining: int | None, sent_at: float) -> bool:
        """Whether a reset is that of a window which is over: answers may overtake each other.

        The reset after it may be so near that it looks the same. Then a full count shows that a window has opened.
        """
        if self._reset_at is not None:
            return reset_at < self._reset_at - margin_s
        if reset_at > self._last_reset_at + margin_s:
            return False
        is_full = self._missing(remaining or 0) <= 0
        return not (is_full and sent_at >= self._start and reset_at > self._last_reset_at)

    def _ahead_s(self, now: float, headers: RateHeaders, sent_at: float) -> float | None:
        """Seconds until the reset, from any form of it. Keeps the longest, and the window's length."""
        if headers.window_s is not None:
            self._window_s = max(_MARGIN_S, headers.window_s)
        ahead_s, lag_s = headers.reset_in_s, 0.0
        if headers.reset_number is not None:
            self._is_ms = self._is_ms or headers.reset_number > _SECONDS_BELOW
            ahead_s = headers.reset_number / (1000 if self._is_ms else 1)
        elif headers.reset_at is not None and headers.date is not None:
            ahead_s = headers.reset_at - headers.date
            lag_s = self._note_lag(now, sent_at - now - ahead_s)  # no request leaves after its window's end
        if ahead_s is None or ahead_s + lag_s > _LONGEST_S:
            return None
        # The lag may be that of another gateway: only a reset that has passed surely needs it.
        self._longest_s = max(self._longest_s, ahead_s if ahead_s > 0 else ahead_s + lag_s)
        return ahead_s + lag_s

    def _note_lag(self, now: float, least_s: float) -> float:
        """The lag, from an answer that shows it to be ``least_s`` or more; none once answers show it no more."""
        if least_s >= self._lag_s - _MARGIN_S:
            self._lag_at = now
        elif now > self._lag_at + _LAG_S:
            self._lag_s = 0.0
        self._lag_s = max(self._lag_s, least_s)
        return self._lag_s

    # --- Which of the two ---

    def _check_window(self, now: float, remaining: int, ahead_s: float | None) -> None:
        """Checks for signs of an even rate: the count grows within the window, or has not grown at its opening."""
        limit = self._limit or self._full
        # Answers that overtake each other look like growth: by up to twice those in flight, but seldom by half a limit.
        unsure = min(2 * self._slack, max(self._slack, limit // 2))
        if limit == 0 or (self._mark is not None and remaining + self._answered - self._mark <= 1 + unsure):
            return
        missing = self._missing(remaining)
        if self._mark is None and missing <= 0 and max(self._window_s, self._longest_s) <= _SHORT_S:
            self._replace_short_windows(now)
            return
        if self._mark is None:
            self._check_opening(missing, ahead_s)
        elif missing <= 0 and ahead_s is None and self._reset_at is None:
            self._open_full(now, remaining)
        else:
            self._signs += _SIGN
        if self._signs > _SIGN:
            self._begin_rate(now, self._measured(now, remaining))
        self._begin_measure(now, remaining)

    def _check_opening(self, missing: int, ahead_s: float | None) -> None:
        """Checks the first count in a window that has just opened: it should be full."""
        # Later in a window others may have spent it, and so may they before the first one that is seen.
        is_opening = ahead_s is not None and ahead_s >= self._window_s - _OPENING_S
        if is_opening and self._last_reset_at > -math.inf:
            is_sign = missing > max(2, (self._limit or self._full) // 5)
            self._signs = self._signs + _SIGN if is_sign else max(-_SIGN, self._signs - (missing <= 0))

    def _check_rate(self, now: float, remaining: int) -> bool:
        """Checks for signs of windows: the count jumps to full, faster than by the rate, or a first count has come."""
        limit = self._limit or self._full
        is_jump = (
            self._longest_s > _SHORT_S
            and self._missing(remaining) <= 0
            and (self._reported or 0) + 2 * (self._rate or 0.0) * (now - self._reported_at) < limit / 2
        )
        if self._reported is not None and not is_jump:
            return False
        self._rate, self._short_rate, self._signs = None, None, 0
        self._open(now)
        self._reported = remaining
        return True

    def _missing(self, remaining: int) -> int:
        """How many requests are missing from a full count, the last one and those in flight aside."""
        return (self._limit or self._full) - 1 - remaining - self._slack

    def _replace_short_windows(self, now: float) -> None:
        """Assumes an even rate in place of windows that are short: what they allow."""
        # Resets a second apart have one name, so that a window of one second looks like two.
        length_s = self._window_s if self._window_s > 2 * _SPAN_MARGIN_S else max(_MARGIN_S, self._longest_s)
        self._longest_s = max(self._longest_s, length_s)
        self._short_rate = _SHORT_SHARE * (self._limit or self._full) / length_s
        self._begin_rate(now, self._short_rate)
        self._next_at += 1 / self._short_rate  # the request that was answered has left, by this rate

    def _begin_rate(self, now: float, rate: float) -> None:
        """Assumes an even rate from here on; the limit, if it is one a minute, is a first guess at it."""
        self._signs = 0
        self._rate = max(rate, (self._limit or 0) / WINDOW_S, LEAST_RATE)
        self._next_at = self._reported_at = self._quiet_from = now


def _burst(use: Use, whole: int) -> float:
    """How many of ``whole`` requests may leave at once."""
    # Not all: others may share the key, and a gateway may count seconds. A few may in any case.
    return max(5.0, use.value * whole)
