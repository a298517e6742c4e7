#!/bin/sh
python -m pip install --no-deps nequix==0.4.5
