"""The service's contract: every fact about the Modellix API that this library relies on, once, with its source.

The service has no machine-readable contract, its documents disagree, and its limits move. So each fact here names
where it was read and when, and the code that relies on a fact names it instead of repeating it. Where two sources
disagree the first of this list counts:

    reference      the two reference pages, of hailuo-2.3-i2v and hailuo-02-fl2v (read in November 2026)
    documents      the service's other public documentation (read in November 2026)
    vendor         what the service published in August 2026: prices, billing, webhooks, uploads
    client         how its own command-line client, modellix-cli, behaves (read in November 2026)
    customer       notes of a paying customer on real runs (November 2026)

The emulator does not import this module: a mistake here must show as a difference between the two.
"""

from __future__ import annotations

from datetime import timedelta

# --- Where it is, and who may ask -----------------------------------------------------------------------------------

#: The host (reference), and the variables that the service's own tools read (client).
DEFAULT_BASE_URL = "https://api.modellix.ai"
API_KEY_VARIABLE = "MODELLIX_API_KEY"
BASE_URL_VARIABLE = "MODELLIX_BASE_URL"

#: Asks about one task; the id goes behind it (reference, documents).
TASKS_PATH = "/api/v1/tasks/"
#: Tells whether the key is valid: ``data.is_valid``, with 200 also for one that is not (client; vendor).
VALIDATE_PATH = "/api/v1/apikey/validate"
#: Tells ``data.balance``, a number in USD (client).
BALANCE_PATH = "/api/v1/team/balance"
#: Lists models with their prices, in ``models`` without an envelope (client; vendor).
MODELS_PATH = "/api/v1/models"
#: Takes, lists and deletes uploads (a published client of the service's; vendor).
UPLOADS_PATH = "/api/v1/media/files"

# --- What a job may ask (the table of models has each model's own) --------------------------------------------------

#: "Required string length: 1 - 2000" (reference).
MAX_PROMPT_CHARACTERS = 2000

#: The fifteen camera commands, as a prompt spells them in brackets (reference). Any other is read as plain words.
CAMERA_COMMANDS = frozenset(
    {
        *("Truck left", "Truck right", "Pan left", "Pan right", "Push in", "Pull out", "Pedestal up", "Pedestal down"),
        *("Tilt up", "Tilt down", "Zoom in", "Zoom out", "Shake", "Tracking shot", "Static shot"),
    }
)

#: "<20MB": an image of so many bytes is one byte too large (reference).
IMAGE_UNDER_BYTES = 20_000_000
#: "short side >300px" (reference): a side of so many pixels is too short.
SHORT_SIDE_OVER_PX = 300
#: "aspect ratio between 2:5 and 5:2" (reference): how often the short side goes into the long one, at most.
MAX_RATIO = 5 / 2

# --- Answers --------------------------------------------------------------------------------------------------------

#: Statuses that certainly refuse (documents; 405 and 415: client). Every other that is not 2xx leaves a doubt: the
#: task may exist, and be paid for.
REJECTED = frozenset({400, 405, 413, 415, 422})
NOT_AUTHENTICATED = frozenset({401, 403})
NO_BALANCE = frozenset({402})
NOT_FOUND = frozenset({404})
TOO_MANY = frozenset({429})
#: Statuses below 500 by which a server says: not now.
BUSY = frozenset({408, 409, 425})

#: A 429 for tasks that run, not for requests, has this word in it, in any case; its exact words differ (customer).
RUNNING_LIMIT_WORD = "concurren"
#: The envelope's words where nothing went wrong (reference). They are never a reason.
NO_REASONS = frozenset({"success", "succeeded", "ok"})

#: How each state of a task may be spelled, in any case (documents; client; canceled: vendor).
PENDING_WORDS = frozenset({"pending", "queued", "created"})
PROCESSING_WORDS = frozenset({"processing", "running", "in_progress"})
SUCCESS_WORDS = frozenset({"success", "succeeded", "completed", "done"})
FAILED_WORDS = frozenset({"failed", "error"})
CANCELED_WORDS = frozenset({"canceled", "cancelled"})

#: MiniMax's own codes of failures, which may shine through: sensitive input, sensitive output, bad parameters.
SENSITIVE_INPUT, SENSITIVE_OUTPUT, BAD_PARAMETERS = 1026, 1027, 2013

#: How long a result is kept, where ``result_expires_at`` does not say (customer, vendor; older documents: 24 hours).
RESULT_LIFETIME = timedelta(days=7)

# --- Limits ---------------------------------------------------------------------------------------------------------

#: Requests of a team are counted in windows of this length; so many are allowed to the smallest team (documents).
WINDOW_S = 60.0
SMALLEST_REQUEST_LIMIT = 100

#: How many tasks a team may run at once, by its largest single top-up (customer, vendor). What others of the team run
#: lies within it, so the limit that a client meets may be any number.
RUNNING_TIERS = (2, 10, 20, 30, 50, 100)

#: An upload's size; how many files a team may hold, each for some seven days; how many it may send at once (customer,
#: and a published client of the service's).
MAX_UPLOAD_BYTES = 16 * 1024 * 1024
MAX_UPLOADS = 10
UPLOADS_AT_ONCE = 2

# --- Webhooks -------------------------------------------------------------------------------------------------------

#: On a submit: where the service POSTs the end of the task. It must be public https; no signature is documented, so a
#: delivery is a hint and never a fact (vendor; not confirmed for Hailuo in particular).
WEBHOOK_HEADER = "X-Webhook-URL"
#: On a delivery: whose end it tells (vendor).
WEBHOOK_TASK_HEADER = "X-Modellix-Task-ID"
