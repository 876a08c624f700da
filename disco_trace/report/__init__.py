"""Turn traces and runs into answers: a locked SQL database, and one HTML file with charts.

`database` opens traces as views, `pages` reads what a report shows, `charts` and `render` draw it.
"""
