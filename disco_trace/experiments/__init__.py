"""Repeat the experiments of the literature: captures, replays, figures in published form.

An experiment is a TOML file in `reports/experiments`: workloads, the cases of each, and what was
published for them. `captures` is what all have in common; each other file is a kind of experiment:
`overhead` (Figure 5), `footprint` (Figure 6), `scaling` (Figure 7), `placement` (Figure 8 and
Table 3), `services` (Table 2). How their figures look is `report`'s business.
"""
