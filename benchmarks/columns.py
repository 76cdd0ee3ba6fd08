"""How values are called and written in a table: by their names in a figure."""

from __future__ import annotations

import attrs


@attrs.frozen
class Column:
    """What stands over a value, and how it is written."""

    heading: str
    """Empty for a value that only plots make use of."""
    format: str = ".2f"


COLUMNS = {
    "wall_s": Column("wall s"),
    "cpu_s": Column("CPU s"),
    "cpu_ms_per_job": Column("CPU ms a job"),
    "requests_per_job": Column("requests a job"),
    "queries_per_job": Column(""),
    "posts_per_job": Column("POSTs a job"),
    "videos": Column("videos", ".0f"),
    "jobs_in_doubt": Column("in doubt", ".0f"),
    "jobs_not_sent": Column("not sent", ".0f"),
    "jobs_lost": Column("lost", ".0f"),
    "jobs_paid_twice": Column("paid twice", ".0f"),
    "tasks_leaked": Column("tasks leaked", ".0f"),
    "stall_ms": Column("longest stall ms", ".0f"),
    "sent_mb_per_job": Column("sent MB a job"),
    "peak_rss_mb": Column("peak RSS MB", ".0f"),
    "grown_mb": Column("grew by MB", ".1f"),
    "first_outcome_s": Column("first outcome s"),
    "pulled_ahead": Column("pulled ahead", ".0f"),
    "efficiency": Column("efficiency", ".3f"),
    "efficiency_best_interval": Column("best fixed interval", ".3f"),
    "efficiency_every_5_s": Column("every 5 s", ".3f"),
    "share_of_fixed_interval": Column("queries over fixed"),
    "mean_delay_s": Column("delay s"),
    "refused_share": Column("no room", ".1%"),
    "over_budget": Column("over budget", ".0f"),
    "slots": Column(""),
    "refused_submits": Column("submits refused", ".1%"),
    "queries_refused": Column("queries refused", ".0f"),
    "refused_requests": Column("refused", ".1%"),
    "evenness": Column("evenness", ".3f"),
    "round_trips_per_s": Column("round trips/s", ".1f"),
    "statements_per_s": Column("statements/s", ".0f"),
    "wait_s": Column("wait s"),
    "wait_p95_s": Column("p95 s"),
    "cpu_percent": Column("CPU %", ".2f"),
    "late_s": Column("late s", ".3f"),
    "late_p95_s": Column("late, p95 s", ".3f"),
    "delivered_late_s": Column("late s", ".1f"),
    "paid_twice": Column("paid twice", ".0f"),
    **{f"efficiency_{slots}": Column(f"efficiency at {slots}", ".2f") for slots in (3, 12, 30)},
    **{f"refused_{slots}": Column(f"refused at {slots}", ".1%") for slots in (3, 12, 30)},
    "second_delay_s": Column("second model s", ".1f"),
    "took_ms": Column("ms", ".0f"),
}


def column(name: str) -> Column:
    """That of a value; one that is not listed is called by its name."""
    return COLUMNS.get(name) or Column(name.replace("_per_job", " a job").replace("_", " "), ".3g")
