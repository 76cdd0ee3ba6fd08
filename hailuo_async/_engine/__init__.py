"""The only place that waits: for a slot, for a request, for the next query.

Where to begin to read:

    a job            admission, dispatcher, queue, gate, submitter, poller, results; its state is a tracked_job
    many jobs        stream, intake, funds, saving, shared_uploads
    with a journal   journaling, following (jobs of other sessions), keeping (whole jobs)
    a team           team, team_view, team_line, team_limits, team_updates, team_monitor
    the whole        wiring makes an engine, engine runs it, session_state says where it stands
"""
