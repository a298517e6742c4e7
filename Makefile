# make run: the study on the laptop pool. make test: the tests. make lint: linters and type checker. make docs: the pages, in
# runs/site. make fuzz: mutated inputs. They set up everything they need first.

PYTHON ?= python3
BIN := .venv/bin
# Built from source with a C compiler alone; everything else comes as wheels.
GPAW := gpaw==26.7.0 gpaw-data==1.2.1
export PYTHONNOUSERSITE := 1

# What pyproject.toml says too. An interpreter of any version can read this line.
CHECK_PYTHON := import sys; v = sys.version_info[:2]; sys.exit(not (3, 11) <= v <= (3, 13) and \
	'phonoscreen needs Python 3.11 to 3.13; $(PYTHON) is %d.%d: choose another, such as make PYTHON=python3.12' % v)

ifneq ($(words $(CURDIR)),1)
$(error The path of this folder has a space, which make and the scripts of a Python environment cannot hold: move the repository)
endif

.PHONY: run test test-cluster test-storage test-environments test-nequix fuzz lint docs teacher-labels bonding-records published-model repeated-model experiment-models experiment-dft benchmark-force-constants benchmark-phonondb benchmark-polar-crystals benchmark-forces benchmark-transport benchmark-screening benchmark-relaxation benchmark-scale benchmark-force-sets benchmark-download benchmark-gpaw benchmark-dft-phonondb

run: .venv/.complete
	$(BIN)/snakemake --profile laptop

test: .venv/.complete
	$(BIN)/python -m pytest -n 2 --dist loadfile tests

# A real Slurm of one node, from Debian's packages (as root), and a study through --profile slurm with faults injected.
test-cluster: .venv/.complete
	$(BIN)/python -m tests.cluster.slurm install
	PHONOSCREEN_CLUSTER=1 $(BIN)/python -m pytest tests/cluster

# Thousands of mutated inputs of everything that reads what others wrote; make test runs some hundreds. FUZZ=names: of some targets.
fuzz: .venv/.complete
	$(BIN)/python -m tests.fuzz $(FUZZ)

.venv/.complete: requirements.txt pyproject.toml
	$(PYTHON) -c "$(CHECK_PYTHON)"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -r requirements.txt
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	GPAW_CONFIG=$(CURDIR)/envs/gpaw_siteconfig.py $(BIN)/python -m pip install --quiet $(GPAW) \
		|| echo "GPAW was not built (it needs a C compiler): the bonding stage skips every structure and says so"
	touch $@

# The environment of the engine nequix, and what it labels: the pool of the paper's size, relaxed crystals, displaced
# supercells, strained cells. Continues where it stopped; COMPOUNDS=200 takes fewer.
.venv-nequix/.complete: envs/nequix-requirements.txt
	$(PYTHON) -m venv .venv-nequix
	.venv-nequix/bin/python -m pip install --quiet --no-deps -r envs/nequix-requirements.txt
	touch $@

COMPOUNDS ?= 3650
runs/labels/pool.csv: .venv/.complete resources/enumeration.yaml
	mkdir -p $(@D)
	$(BIN)/python -m phonoscreen.structures.enumeration resources/enumeration.yaml > $@.partial
	mv $@.partial $@

teacher-labels: .venv-nequix/.complete runs/labels/pool.csv
	OMP_NUM_THREADS=1 .venv-nequix/bin/python -m phonoscreen.stages.label_library runs/labels/pool.csv \
		runs/labels/chunks --compounds $(COMPOUNDS) $(if $(EXCLUDE),--exclude $(EXCLUDE))

# COHP of the compounds of resources/bonding/compounds.csv with GPAW, one after another; goes on where it stopped.
bonding-records: .venv/.complete
	OMP_NUM_THREADS=1 $(BIN)/python -m phonoscreen.stages.bonding_product resources/bonding/cohp.h5 \
		runs/bonding resources/bonding/compounds.csv

# A model of the published one's settings, from the kept labels alone and on a CPU: five members one after another, judged;
# it goes on where it stopped, and lies in runs/published-model/model. The published model learned from forces of DFT too
# (docs/force_models.md): to take its place, give --publish resources/model.
published-model: .venv/.complete
	OMP_NUM_THREADS=1 $(BIN)/python -m phonoscreen train resources/labels/teacher_labels.h5 runs/published-model

# The published model again, from the one before it (commit 7413bdd), on a CPU: FORCE_SETS, a folder of phonondb's compounds, and
# ROLES, the table that says which of them judge. 2.5 core-hours and 9 GB of memory, PROCESSES members at a time; it goes on where it
# stopped, and lies in runs/last-epoch/model.
PROCESSES ?= 2
ON_ALL := --more-labels resources/labels/queried_labels.h5 resources/labels/drawn_labels.h5 --force-sets $(FORCE_SETS) \
	--roles $(ROLES) --processes $(PROCESSES) --memory-gib 6
repeated-model: TRAIN := OMP_NUM_THREADS=1 $(BIN)/python -m phonoscreen train resources/labels/teacher_labels.h5
repeated-model: .venv/.complete
	$(if $(and $(FORCE_SETS),$(ROLES)),,$(error give FORCE_SETS=FOLDER and ROLES=FILE, see docs/force_models.md))
	mkdir -p runs/before
	git archive 7413bdd resources/model | tar -x -C runs/before
	$(TRAIN) runs/continued --start runs/before/resources/model --settings resources/model_continuation.yaml $(ON_ALL)
	$(TRAIN) runs/last-epoch --start runs/continued --settings resources/model_last_epoch.yaml $(ON_ALL) --force-sets-weight 3

test-nequix: .venv-nequix/.complete
	.venv-nequix/bin/python -m pytest tests/test_reference_nequix.py

# Products in an object storage: the plugin of Snakemake and a real S3 server on this machine, the whole small study through
# them. Beside the packages of .venv stand those that only this needs; where both have one, theirs is taken.
.venv-storage/.complete: .venv/.complete envs/storage-requirements.txt
	$(PYTHON) -m venv .venv-storage
	$(BIN)/python -c "import sysconfig; print(sysconfig.get_path('purelib'))" \
		> $$(.venv-storage/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")/study.pth
	.venv-storage/bin/python -m pip install --quiet --no-deps --ignore-installed -r envs/storage-requirements.txt
	touch $@

test-storage: .venv-storage/.complete
	PHONOSCREEN_STORAGE=1 .venv-storage/bin/python -m pytest tests/test_storage.py

# The experiment on force models, in a folder of its own; continues where it stopped. SCALE=3 takes three times the compounds (at most 7).
SCALE ?= 1
EXPERIMENT := runs/experiment-$(SCALE)
experiment-models: .venv/.complete
	mkdir -p $(EXPERIMENT)
	$(BIN)/python -m phonoscreen.structures.substitution resources/experiment_families.yaml resources/pool.csv \
		--scale $(SCALE) > $(EXPERIMENT)/pool.csv
	printf 'source: {path: pool.csv}\nexperiment: {scale: $(SCALE)}\n' > $(EXPERIMENT)/scale.yaml
	$(BIN)/snakemake --profile experiment --directory $(EXPERIMENT) --configfile $(EXPERIMENT)/scale.yaml -- experiment

# Its models against real DFT forces, found through PHONOSCREEN_REFERENCE.
experiment-dft: .venv/.complete
	$(BIN)/python -m tests.benchmarks.real_dft --models $(EXPERIMENT)/results/experiment

# Snakemake's conda code path: a launcher that holds Snakemake alone makes the environments from their files and a channel
# of packages made of the locked wheels, and runs every rule of the small study in its own. pip must find PyTorch as built for
# CPUs: the locks name no libraries of CUDA.
WHEELS := runs/environments/wheels
.venv-launcher/.complete .venv-conda/.complete: .venv-%/.complete: envs/%-requirements.txt
	$(PYTHON) -m venv .venv-$*
	.venv-$*/bin/python -m pip install --quiet --no-deps -r $<
	touch $@

$(WHEELS)/.complete: .venv/.complete $(wildcard envs/locks/*.txt)
	rm -rf runs/environments
	mkdir -p $(WHEELS)
	cat envs/locks/*.txt | sort --unique > $(WHEELS)/locked.txt
	GPAW_CONFIG=$(CURDIR)/envs/gpaw_siteconfig.py $(BIN)/python -m pip wheel --quiet --no-deps \
		-r $(WHEELS)/locked.txt -w $(WHEELS) pip
	touch $@

test-environments: .venv/.complete .venv-launcher/.complete .venv-conda/.complete $(WHEELS)/.complete
	PHONOSCREEN_ENVIRONMENTS=1 $(BIN)/python -m pytest tests/test_conda_environments.py

lint: .venv/.complete
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile rules profiles/*/Snakefile
	$(BIN)/snakemake --lint
	$(BIN)/mypy

docs: .venv/.complete
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict --site-dir runs/site

benchmark-force-constants: .venv/.complete
	$(BIN)/python -W ignore -m tests.benchmarks.bench_force_constants
	$(BIN)/python -W ignore -m tests.benchmarks.fit_throughput

benchmark-phonondb: .venv/.complete
	$(BIN)/python -W ignore -m tests.benchmarks.phonondb_frequencies
	$(BIN)/python -W ignore -m tests.benchmarks.phonondb_low_symmetry

# A download of RECORDS=100000 records from a service on this machine.
benchmark-download: .venv/.complete
	$(BIN)/python -W ignore -m tests.benchmarks.download $(RECORDS)

# All compounds of phonondb through the collection of force sets, beside phonopy; continues where it was stopped. COMPOUNDS=40 takes fewer.
benchmark-force-sets: .venv/.complete
	$(BIN)/python -W ignore -m tests.benchmarks.phonondb_collection $(COMPOUNDS)

# Forces and lattice constants by GPAW at the default settings against tighter ones and all-electron values.
benchmark-gpaw: .venv/.complete
	$(BIN)/python -W ignore -m tests.benchmarks.gpaw_accuracy

# The kept DFT labels and the published model beside phonondb's force constants, for the compounds that both have.
benchmark-dft-phonondb: .venv/.complete
	$(BIN)/python -W ignore -m tests.benchmarks.dft_phonondb

benchmark-polar-crystals: .venv/.complete
	$(BIN)/python -W ignore -m tests.benchmarks.polar_crystals

benchmark-forces: .venv/.complete
	$(BIN)/python -W ignore -m tests.benchmarks.bench_forces --threads 1
	$(BIN)/python -W ignore -m tests.benchmarks.bench_forces --threads 2

benchmark-transport: .venv/.complete
	$(BIN)/python -m tests.benchmarks.accuracy_transport
	$(BIN)/python -m tests.benchmarks.bench_transport --figure docs/images/transport_cost.png

# CPU seconds of the screening by part, time of a relaxation, and what the whole pool takes.
benchmark-screening: .venv/.complete
	OMP_NUM_THREADS=1 $(BIN)/python -W ignore -m tests.benchmarks.bench_screening

# CPU time of relaxations with the published model: python -m tests.benchmarks.bench_relaxation --help
benchmark-relaxation: .venv/.complete
	OMP_NUM_THREADS=1 $(BIN)/python -W ignore -m tests.benchmarks.bench_relaxation

benchmark-scale: .venv/.complete
	$(BIN)/python -W ignore -m tests.benchmarks.scale
	$(BIN)/python -W ignore -m tests.benchmarks.dft_at_scale
