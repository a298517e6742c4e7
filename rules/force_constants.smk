ORDER_KEYS = [
    "second_cutoff_angstrom",
    "third_cutoff_angstrom",
    "third_shells",
    "fourth_cutoff_angstrom",
]
FIT_KEYS = ["method", "in_sequence", "rotational_sum_rules"]


rule build_symmetry_bases:
    """Symmetry bases of the structures of one shard, one per prototype, supercell and neighbour shells."""
    input:
        arrays="results/relaxed/{shard}.h5",
        records="results/relaxed/{shard}.parquet",
        prototypes=local(f"{RESOURCES}/prototypes.yaml"),
    output:
        bases="results/bases/{shard}.h5",
        assignment="results/bases/{shard}.parquet",
    log:
        "logs/build_symmetry_bases/{shard}.log",
    benchmark:
        "benchmarks/build_symmetry_bases/{shard}.tsv"
    conda:
        "../envs/lattice.yaml"
    threads: 1
    resources:
        mem_mb=NEEDS.memory("build_symmetry_bases"),
        runtime=NEEDS.runtime("build_symmetry_bases"),
    params:
        code=code_of("scripts/build_symmetry_bases.py"),
        supercell=config["supercell"],
        orders={key: config["force_constants"][key] for key in ORDER_KEYS},
    script:
        "../scripts/build_symmetry_bases.py"


rule fit_force_constants:
    """Second- and third-order force constants of one shard from displaced supercells."""
    input:
        unpack(forces_of),
        charges=charges_of_shard,
        charges_records=charges_records_of_shard,
        supercells="results/supercells/{shard}.h5",
        assignment="results/bases/{shard}.parquet",
        bases="results/bases/{shard}.h5",
    output:
        arrays="results/force_constants/{source}/{shard}.h5",
        records="results/force_constants/{source}/{shard}.parquet",
    log:
        "logs/fit_force_constants/{source}_{shard}.log",
    benchmark:
        "benchmarks/fit_force_constants/{source}_{shard}.tsv"
    conda:
        "../envs/lattice.yaml"
    threads: 1
    resources:
        mem_mb=NEEDS.memory("fit_force_constants"),
        runtime=NEEDS.runtime("fit_force_constants"),
    params:
        code=code_of("scripts/fit_force_constants.py"),
        fit={key: config["force_constants"][key] for key in FIT_KEYS},
        learning_curve=config["force_constants"]["learning_curve"],
    script:
        "../scripts/fit_force_constants.py"


rule check_stability:
    """Frequencies along the band path and on a mesh; imaginary ones mean unstable."""
    input:
        force_constants="results/force_constants/{source}/{shard}.h5",
        records="results/force_constants/{source}/{shard}.parquet",
        relaxed="results/relaxed/{shard}.h5",
        bases="results/bases/{shard}.h5",
    output:
        arrays="results/stability/{source}/{shard}.h5",
        records="results/stability/{source}/{shard}.parquet",
    log:
        "logs/check_stability/{source}_{shard}.log",
    benchmark:
        "benchmarks/check_stability/{source}_{shard}.tsv"
    conda:
        "../envs/lattice.yaml"
    threads: 1
    resources:
        mem_mb=NEEDS.memory("check_stability"),
        runtime=NEEDS.runtime("check_stability"),
    params:
        code=code_of("scripts/check_stability.py"),
        imaginary_threshold_thz=config["stability"]["imaginary_threshold_thz"],
        non_analytic_correction=config["transport"]["non_analytic_correction"],
    script:
        "../scripts/check_stability.py"
