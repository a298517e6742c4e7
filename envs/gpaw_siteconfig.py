# Options for building GPAW with a C compiler alone: GPAW_CONFIG=envs/gpaw_siteconfig.py pip install gpaw gpaw-data
# Linear algebra then goes through numpy and scipy, and PBE is GPAW's own; slower than a full build, the same numbers.
compiler = "gcc"
noblas = True
nolibxc = True
fftw = False
scalapack = False
mpi = False
libraries = []
