"""The experiment on force models: learning curves, calibration and selection on compounds that are all labelled."""
