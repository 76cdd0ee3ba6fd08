"""What the emulator relies on about the service: every number and wording that is the service's own, with its source.

Sources, as the comments below name them:

* *reference*: the two API reference pages, of hailuo-2.3-i2v and of hailuo-02-fl2v, and the public documentation;
* *client*: how the service's own command-line client behaves;
* *vendor*: what the service published in August 2026;
* *customer*: the notes of a paying customer, 2026. Gathered last on 2026-11-25.

The client has its own collection of facts. The two share no code, so that a misreading in one shows in the other.

Where the sources are silent, the emulator had to choose. It chose: windows of a minute by the server's clock for the
requests limit, 400 for the eleventh upload, 429 for the third at once, ``data.files`` for the list of uploads, 415 for
a body that is not JSON, 405 for a method that a path does not answer, a price within the published range where a single
cell is not published, and that a failed task is paid for.
"""

from __future__ import annotations

from decimal import Decimal

import attrs

API = "/api/v1/"
PROVIDER = "minimax"
TYPE = "image-to-video"

# --- Limits and refusals ---


@attrs.frozen
class Tier:
    """What a team may do: tasks at once, requests a minute."""

    max_running: int
    requests_per_minute: int


#: By the team's largest single top-up (customer, vendor).
TIERS = {
    "under $10": Tier(2, 100),
    "$10": Tier(10, 100),
    "$100": Tier(20, 200),
    "$200": Tier(30, 300),
    "$500": Tier(50, 500),
    "$1,000": Tier(100, 1000),
}
#: The words of a 429 for running tasks are not documented; these were seen (client, customer).
RUNNING_LIMIT_WORDINGS = (
    "Concurrent limit exceeded: the team may run {limit} tasks at once",
    "Concurrency limit reached: {limit} tasks",
    "Too many requests: rate or concurrency limit",
)

#: What the service writes before the colon of a refusal's message (reference), by HTTP status. A 400 and a 429 name
#: their own category. Those of 405 and 415 are not documented.
CATEGORIES = {
    401: "Authentication failed",
    402: "insufficient balance",
    403: "Authentication failed",
    404: "Resource not found",
    405: "Method not allowed",
    413: "body too large",
    415: "Unsupported media type",
    500: "Internal error",
}

# --- Images ---

#: "<20MB" (reference), read generously as MiB: of the image, not of its base64.
MAX_IMAGE_BYTES = 20 * 1024 * 1024
MIN_SHORT_SIDE_PX = 300  # exclusive (reference)
MAX_PROMPT = 2000  # characters (reference)

# --- Uploads ---

MAX_UPLOAD_BYTES = 16 * 1024 * 1024  # client
MAX_FILES = 10  # a team (customer)
UPLOADS_AT_ONCE = 2  # a team (customer)
FILES_LAST_S = 7 * 24 * 3600.0  # customer: "about 7 days"

# --- Results ---

#: Seven days (customer, vendor); older documents said 24 hours. ``result_expires_at`` is the exact word.
RESULTS_LAST_S = 7 * 24 * 3600.0

# --- Webhooks (vendor) ---

WEBHOOK_URL_HEADER = "x-webhook-url"
#: The event in ``X-Modellix-Event``, by the status of the ended task.
WEBHOOK_EVENTS = {
    "success": "prediction.task.succeeded",
    "failed": "prediction.task.failed",
    "canceled": "prediction.task.canceled",
}
#: How often a delivery that was not taken is tried again is not documented.
WEBHOOK_RETRIES = 5

# --- Prices ---

#: USD for a second of video, by resolution and seconds (vendor, list prices of 2026-08-06 to 2026-08-10).
PRICES_02 = {
    ("768P", 6): Decimal("0.0540"),
    ("768P", 10): Decimal("0.0672"),
    ("1080P", 6): Decimal("0.1060"),
}
PRICES_02_512P = {("512P", 6): Decimal("0.0200"), **PRICES_02}
#: Only the range 0.0540 to 0.1200 is published; which cell has which price is chosen here.
PRICES_23 = {
    ("768P", 6): Decimal("0.0540"),
    ("768P", 10): Decimal("0.0800"),
    ("1080P", 6): Decimal("0.1200"),
}
#: 0.0400 for the first (customer: billed 0.2400 for 6 s); of the others only "up to 0.0800" is published.
PRICES_23_FAST = {
    ("768P", 6): Decimal("0.0400"),
    ("768P", 10): Decimal("0.0500"),
    ("1080P", 6): Decimal("0.0800"),
}
PRICES_01 = {("720P", 6): Decimal("0.1000")}
