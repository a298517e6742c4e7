rule tabulate_status:
    """How many structures left each stage with which status, and times per supercell."""
    input:
        manifest="results/structures/manifest.parquet",
        relaxed=expand("results/relaxed/{shard}.parquet", shard=SHARDS),
        assignment=expand("results/bases/{shard}.parquet", shard=SHARDS),
        supercells=expand("results/supercells/{shard}.parquet", shard=SHARDS),
        charges=charges_of("parquet", SHARDS),
        labels=expand("results/labels/{shard}.parquet", shard=SHARDS),
        checked_labels=expand("results/checked_labels/{shard}.parquet", shard=SHARDS),
        predicted=expand("results/predicted/{shard}.parquet", shard=SHARDS),
        force_constants_reference=expand(
            "results/force_constants/reference/{shard}.parquet", shard=SHARDS
        ),
        force_constants_predicted=expand(
            "results/force_constants/predicted/{shard}.parquet", shard=SHARDS
        ),
        stability_reference=expand(
            "results/stability/reference/{shard}.parquet", shard=SHARDS
        ),
        stability_predicted=expand(
            "results/stability/predicted/{shard}.parquet", shard=SHARDS
        ),
        transport_reference=expand(
            "results/transport/reference/{shard}.parquet", shard=SHARDS
        ),
        transport_predicted=expand(
            "results/transport/predicted/{shard}.parquet", shard=SHARDS
        ),
        bonding=expand("results/bonding/{shard}.parquet", shard=SHARDS),
    output:
        status="results/tables/status.parquet",
        status_csv=report(
            "results/tables/status.csv",
            caption="../report/table.rst",
            category="Tables",
            labels={"table": "status"},
        ),
        timings="results/tables/timings.parquet",
        timings_csv=report(
            "results/tables/timings.csv",
            caption="../report/table.rst",
            category="Tables",
            labels={"table": "timings"},
        ),
    log:
        "logs/tabulate_status.log",
    benchmark:
        "benchmarks/tabulate_status.tsv"
    conda:
        "../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=NEEDS.memory("tabulate_status"),
        runtime=NEEDS.runtime("tabulate_status"),
    params:
        code=code_of("scripts/tabulate_status.py"),
    script:
        "../scripts/tabulate_status.py"


rule tabulate_table1:
    """Structures per class, calculated, unexplored and stable, beside the published counts."""
    input:
        manifest="results/structures/manifest.parquet",
        published=local(f"{RESOURCES}/published/table1.yaml"),
        stability_reference=expand(
            "results/stability/reference/{shard}.parquet", shard=SHARDS
        ),
        stability_predicted=expand(
            "results/stability/predicted/{shard}.parquet", shard=SHARDS
        ),
    output:
        table1="results/tables/table1.parquet",
        table1_csv=report(
            "results/tables/table1.csv",
            caption="../report/table.rst",
            category="Tables",
            labels={"table": "table1"},
        ),
    log:
        "logs/tabulate_table1.log",
    benchmark:
        "benchmarks/tabulate_table1.tsv"
    conda:
        "../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=NEEDS.memory("tabulate_table1"),
        runtime=NEEDS.runtime("tabulate_table1"),
    params:
        code=code_of("scripts/tabulate_table1.py"),
    script:
        "../scripts/tabulate_table1.py"


rule tabulate_learning:
    """Growth of the training data, histories, and errors on untrained structures per round."""
    input:
        manifest="results/structures/manifest.parquet",
        datasets=expand("results/rounds/{round}/dataset.parquet", round=ROUNDS),
        compounds=compounds_before,
        selections=expand("results/rounds/{round}/selection.parquet", round=ROUNDS[:-1]),
        convergences=expand(
            "results/rounds/{round}/convergence.json", round=ROUNDS[:-1]
        ),
        validations=expand("results/rounds/{round}/validation.parquet", round=ROUNDS),
        histories=expand(
            "results/rounds/{round}/members/{member}/history.parquet",
            round=ROUNDS,
            member=MEMBERS,
        ),
    output:
        rounds="results/tables/rounds.parquet",
        rounds_csv=report(
            "results/tables/rounds.csv",
            caption="../report/table.rst",
            category="Tables",
            labels={"table": "rounds"},
        ),
        round_errors="results/tables/round_errors.parquet",
        round_errors_csv=report(
            "results/tables/round_errors.csv",
            caption="../report/table.rst",
            category="Tables",
            labels={"table": "round_errors"},
        ),
        histories="results/tables/histories.parquet",
        histories_csv=report(
            "results/tables/histories.csv",
            caption="../report/table.rst",
            category="Tables",
            labels={"table": "histories"},
        ),
    log:
        "logs/tabulate_learning.log",
    benchmark:
        "benchmarks/tabulate_learning.tsv"
    conda:
        "../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=NEEDS.memory("tabulate_learning"),
        runtime=NEEDS.runtime("tabulate_learning"),
    params:
        code=code_of("scripts/tabulate_learning.py"),
        frames=augmentation(config["force_model"]),
    script:
        "../scripts/tabulate_learning.py"


rule tabulate_forces:
    """Forces of the published model and of universal potentials on untrained structures."""
    input:
        manifest="results/structures/manifest.parquet",
        datasets=expand("results/rounds/{round}/dataset.parquet", round=ROUNDS),
        compounds=compounds_before,
        labels=expand("results/checked_labels/{shard}.h5", shard=SHARDS),
        predicted=expand("results/predicted/{shard}.h5", shard=SHARDS),
        baselines="results/baselines/components.h5",
    output:
        force_errors="results/tables/force_errors.parquet",
        force_errors_csv=report(
            "results/tables/force_errors.csv",
            caption="../report/table.rst",
            category="Tables",
            labels={"table": "force_errors"},
        ),
        force_components="results/tables/force_components.parquet",
        force_components_csv=report(
            "results/tables/force_components.csv",
            caption="../report/table.rst",
            category="Tables",
            labels={"table": "force_components"},
        ),
    log:
        "logs/tabulate_forces.log",
    benchmark:
        "benchmarks/tabulate_forces.tsv"
    conda:
        "../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=NEEDS.memory("tabulate_forces"),
        runtime=NEEDS.runtime("tabulate_forces"),
    params:
        code=code_of("scripts/tabulate_forces.py"),
        components_max=600,
    script:
        "../scripts/tabulate_forces.py"


rule tabulate_phonons:
    """Stability, frequency errors and band structures from both kinds of forces."""
    input:
        manifest="results/structures/manifest.parquet",
        datasets=expand("results/rounds/{round}/dataset.parquet", round=ROUNDS),
        compounds=compounds_before,
        records_reference=expand(
            "results/stability/reference/{shard}.parquet", shard=SHARDS
        ),
        records_predicted=expand(
            "results/stability/predicted/{shard}.parquet", shard=SHARDS
        ),
        arrays_reference=expand("results/stability/reference/{shard}.h5", shard=SHARDS),
        arrays_predicted=expand("results/stability/predicted/{shard}.h5", shard=SHARDS),
    output:
        phonons="results/tables/phonons.parquet",
        phonons_csv=report(
            "results/tables/phonons.csv",
            caption="../report/table.rst",
            category="Tables",
            labels={"table": "phonons"},
        ),
        dispersions="results/tables/dispersions.parquet",
        dispersions_csv="results/tables/dispersions.csv",
    log:
        "logs/tabulate_phonons.log",
    benchmark:
        "benchmarks/tabulate_phonons.tsv"
    conda:
        "../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=NEEDS.memory("tabulate_phonons"),
        runtime=NEEDS.runtime("tabulate_phonons"),
    params:
        code=code_of("scripts/tabulate_phonons.py"),
    script:
        "../scripts/tabulate_phonons.py"


rule tabulate_transport:
    """Phonon properties, modes of the compounds of Fig. 7, displacements per element."""
    input:
        manifest="results/structures/manifest.parquet",
        datasets=expand("results/rounds/{round}/dataset.parquet", round=ROUNDS),
        compounds=compounds_before,
        relaxed=expand("results/relaxed/{shard}.h5", shard=SHARDS),
        relaxed_records=expand("results/relaxed/{shard}.parquet", shard=SHARDS),
        records_reference=expand(
            "results/transport/reference/{shard}.parquet", shard=SHARDS
        ),
        records_predicted=expand(
            "results/transport/predicted/{shard}.parquet", shard=SHARDS
        ),
        arrays_reference=expand("results/transport/reference/{shard}.h5", shard=SHARDS),
        arrays_predicted=expand("results/transport/predicted/{shard}.h5", shard=SHARDS),
    output:
        transport="results/tables/transport.parquet",
        transport_csv=report(
            "results/tables/transport.csv",
            caption="../report/table.rst",
            category="Tables",
            labels={"table": "transport"},
        ),
        modes="results/tables/modes.parquet",
        modes_csv=report(
            "results/tables/modes.csv",
            caption="../report/table.rst",
            category="Tables",
            labels={"table": "modes"},
        ),
        elements="results/tables/elements.parquet",
        elements_csv=report(
            "results/tables/elements.csv",
            caption="../report/table.rst",
            category="Tables",
            labels={"table": "elements"},
        ),
    log:
        "logs/tabulate_transport.log",
    benchmark:
        "benchmarks/tabulate_transport.tsv"
    conda:
        "../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=NEEDS.memory("tabulate_transport"),
        runtime=NEEDS.runtime("tabulate_transport"),
    params:
        code=code_of("scripts/tabulate_transport.py"),
    script:
        "../scripts/tabulate_transport.py"


rule tabulate_bonding:
    """Bonding and antibonding beside the predicted thermal conductivity, and the bonds of each structure."""
    input:
        manifest="results/structures/manifest.parquet",
        bonding=expand("results/bonding/{shard}.parquet", shard=SHARDS),
        arrays=expand("results/bonding/{shard}.h5", shard=SHARDS),
        transport_predicted=expand(
            "results/transport/predicted/{shard}.parquet", shard=SHARDS
        ),
    output:
        bonding="results/tables/bonding.parquet",
        bonding_csv=report(
            "results/tables/bonding.csv",
            caption="../report/table.rst",
            category="Tables",
            labels={"table": "bonding"},
        ),
        bonds="results/tables/bonds.parquet",
        bonds_csv=report(
            "results/tables/bonds.csv",
            caption="../report/table.rst",
            category="Tables",
            labels={"table": "bonds"},
        ),
    log:
        "logs/tabulate_bonding.log",
    benchmark:
        "benchmarks/tabulate_bonding.tsv"
    conda:
        "../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=NEEDS.memory("tabulate_bonding"),
        runtime=NEEDS.runtime("tabulate_bonding"),
    params:
        code=code_of("scripts/tabulate_bonding.py"),
    script:
        "../scripts/tabulate_bonding.py"


rule tabulate_embedding:
    """Map of the structure vectors, one per structure, at the centre of its cell."""
    input:
        manifest="results/structures/manifest.parquet",
        relaxed=expand("results/relaxed/{shard}.h5", shard=SHARDS),
    output:
        embedding="results/tables/embedding.parquet",
        embedding_csv=report(
            "results/tables/embedding.csv",
            caption="../report/table.rst",
            category="Tables",
            labels={"table": "embedding"},
        ),
    log:
        "logs/tabulate_embedding.log",
    benchmark:
        "benchmarks/tabulate_embedding.tsv"
    conda:
        "../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=NEEDS.memory("tabulate_embedding"),
        runtime=NEEDS.runtime("tabulate_embedding"),
    params:
        code=code_of("scripts/tabulate_embedding.py"),
        force_model=config["force_model"]["elemental_sdnnff"],
        seed=config["seed"],
    script:
        "../scripts/tabulate_embedding.py"
