"""What the service did, counted for the clinical owner: no patient, no user, no word that anybody typed.

`rows` reads the store, `summary` counts, `sheets` makes tables of it; `table`, `page`, `plots` and `sheets.write` show
them.
"""
