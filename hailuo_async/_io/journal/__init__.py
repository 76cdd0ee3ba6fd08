"""The journal: what was asked for and what became of it, durable before a caller learns of it.

Where to begin to read:

    on the loop      writer (what a session calls), commits (grouped writes), team_link
    on its thread    table, made of claims and rows; asserting, for a database that may lose commits; kept_table
                     and staging, for whole jobs
    a team           team, made of members and team_row; its values are team_values
    the engines      database (what they promise), sqlite, files, bell; postgres, postgres_connection
    for tools        reader
"""
