"""Keep traces and runs on disk: their schema, writer, reader and checker.

A trace is written once by a capture and read many times. `schema` defines every row; `writer` and
`reader` move rows between structured arrays and Parquet parts; `run` keeps results; `check` says
whether a trace keeps its promises.
"""
