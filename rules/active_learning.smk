rule assemble_dataset:
    """Training data of one round: all labels so far, split by structure."""
    input:
        supercells=expand("results/supercells/{shard}.h5", shard=MODEL_SHARDS),
        labels=expand("results/checked_labels/{shard}.h5", shard=MODEL_SHARDS),
        manifest=expand(
            "results/structures/manifest/{shard}.parquet", shard=MODEL_SHARDS
        ),
        selected_labels=labels_until,
    output:
        arrays="results/rounds/{round}/dataset.h5",
        table="results/rounds/{round}/dataset.parquet",
    log:
        "logs/assemble_dataset/{round}.log",
    benchmark:
        "benchmarks/assemble_dataset/{round}.tsv"
    conda:
        "../envs/forcefield.yaml"
    threads: 1
    resources:
        mem_mb=NEEDS.memory("assemble_dataset"),
        runtime=NEEDS.runtime("assemble_dataset"),
    params:
        code=code_of("scripts/assemble_dataset.py"),
        held_out_fraction=config["training"]["held_out_fraction"],
        max_supercells_per_structure=config["training"]["max_supercells_per_structure"],
        seed=config["seed"],
    script:
        "../scripts/assemble_dataset.py"


rule train_member:
    """One member of the committee, warm from the round before."""
    input:
        dataset="results/rounds/{round}/dataset.h5",
        previous=member_before,
        convergence=convergence_before,
    output:
        weights="results/rounds/{round}/members/{member}/model.safetensors",
        settings="results/rounds/{round}/members/{member}/model.json",
        history="results/rounds/{round}/members/{member}/history.parquet",
    log:
        "logs/train_member/{round}_{member}.log",
    benchmark:
        "benchmarks/train_member/{round}_{member}.tsv"
    conda:
        "../envs/forcefield.yaml"
    threads: config["training"]["processes"]
    resources:
        mem_mb=NEEDS.memory("train_member"),
        runtime=NEEDS.runtime("train_member"),
        gpu=NEEDS.gpus("train_member"),
        device=config["force_model"]["device"],
        processes=config["training"]["processes"],
    params:
        code=unwatched(code_of("scripts/train_member.py", MODEL_CODE)),
        force_model=unwatched(model_settings(config["force_model"])),
        training=unwatched(training_settings(config["training"])),
        seed=unwatched(config["seed"]),
    script:
        "../scripts/train_member.py"


rule query_committee:
    """How far the committee disagrees on the supercells of one shard, Eq. (3) of the paper."""
    input:
        supercells="results/supercells/{shard}.h5",
        records="results/supercells/{shard}.parquet",
        manifest="results/structures/manifest/{shard}.parquet",
        weights=expand(
            "results/rounds/{{round}}/members/{member}/model.safetensors",
            member=MEMBERS,
        ),
        settings=expand(
            "results/rounds/{{round}}/members/{member}/model.json", member=MEMBERS
        ),
        convergence=convergence_until,
    output:
        records="results/rounds/{round}/uncertainty/{shard}.parquet",
    log:
        "logs/query_committee/{round}_{shard}.log",
    benchmark:
        "benchmarks/query_committee/{round}_{shard}.tsv"
    conda:
        "../envs/forcefield.yaml"
    threads: 1
    resources:
        mem_mb=NEEDS.memory("query_committee"),
        runtime=NEEDS.runtime("query_committee"),
        gpu=NEEDS.gpus("query_committee"),
        device=config["force_model"]["device"],
    params:
        code=code_of("scripts/query_committee.py", MODEL_CODE),
    script:
        "../scripts/query_committee.py"


rule select_supercells:
    """Supercells that get a reference calculation, and whether active learning has converged."""
    input:
        manifest=expand(
            "results/structures/manifest/{shard}.parquet", shard=MODEL_SHARDS
        ),
        uncertainty=expand(
            "results/rounds/{{round}}/uncertainty/{shard}.parquet", shard=MODEL_SHARDS
        ),
        selections=selections_until,
        convergence=convergence_until,
    output:
        selection="results/rounds/{round}/selection.parquet",
        convergence="results/rounds/{round}/convergence.json",
    log:
        "logs/select_supercells/{round}.log",
    benchmark:
        "benchmarks/select_supercells/{round}.tsv"
    conda:
        "../envs/forcefield.yaml"
    threads: 1
    resources:
        mem_mb=NEEDS.memory("select_supercells"),
        runtime=NEEDS.runtime("select_supercells"),
    params:
        code=code_of("scripts/select_supercells.py", MODEL_CODE),
        threshold_mev_per_angstrom=config["active_learning"][
            "threshold_mev_per_angstrom"
        ],
        strategy=config["active_learning"]["strategy"],
        select_max=config["active_learning"]["select_max"],
        converged_change=config["active_learning"]["converged_change"],
        seed=config["seed"],
    script:
        "../scripts/select_supercells.py"


rule label_selected:
    """Reference forces of the selected supercells of one shard."""
    input:
        outputs=collected_outputs,
        arrays="results/supercells/{shard}.h5",
        records="results/supercells/{shard}.parquet",
        selection="results/rounds/{round}/selection.parquet",
    output:
        arrays="results/rounds/{round}/labels/{shard}.h5",
        records="results/rounds/{round}/labels/{shard}.parquet",
    log:
        "logs/label_selected/{round}_{shard}.log",
    benchmark:
        "benchmarks/label_selected/{round}_{shard}.tsv"
    conda:
        engine_environment(config["reference"])
    threads: 1
    resources:
        mem_mb=NEEDS.memory("label_selected"),
        runtime=NEEDS.runtime("label_selected"),
        gpu=NEEDS.gpus("label_selected"),
        tasks=NEEDS.tasks("label_selected"),
    params:
        code=unwatched(code_of("scripts/label_selected.py", ENGINE_CODE)),
        reference=unwatched(engine_settings(config["reference"], "supercell")),
        machine=machine_state(config["reference"]),
        how=unwatched(how_to_calculate(config["reference"])),
        outputs=unwatched(output_folder(config, "reference")),
    script:
        "../scripts/label_selected.py"


rule check_selected:
    """The same check of all supercells selected in one round."""
    input:
        labels=expand("results/rounds/{{round}}/labels/{shard}.h5", shard=MODEL_SHARDS),
        records=expand(
            "results/rounds/{{round}}/labels/{shard}.parquet", shard=MODEL_SHARDS
        ),
        supercells=expand("results/supercells/{shard}.h5", shard=MODEL_SHARDS),
        assignment=expand("results/bases/{shard}.parquet", shard=MODEL_SHARDS),
        bases=expand("results/bases/{shard}.h5", shard=MODEL_SHARDS),
    output:
        arrays="results/rounds/{round}/checked_labels.h5",
        records="results/rounds/{round}/checked_labels.parquet",
    log:
        "logs/check_selected/{round}.log",
    benchmark:
        "benchmarks/check_selected/{round}.tsv"
    conda:
        "../envs/lattice.yaml"
    threads: 1
    resources:
        mem_mb=NEEDS.memory("check_selected"),
        runtime=NEEDS.runtime("check_selected"),
    params:
        code=code_of("scripts/check_selected.py"),
    script:
        "../scripts/check_selected.py"


rule validate_round:
    """Errors of one round's committee on structures that no round trains on."""
    input:
        manifest=expand(
            "results/structures/manifest/{shard}.parquet", shard=MODEL_SHARDS
        ),
        supercells=expand("results/supercells/{shard}.h5", shard=MODEL_SHARDS),
        labels=expand("results/checked_labels/{shard}.h5", shard=MODEL_SHARDS),
        records=expand("results/checked_labels/{shard}.parquet", shard=MODEL_SHARDS),
        weights=expand(
            "results/rounds/{{round}}/members/{member}/model.safetensors",
            member=MEMBERS,
        ),
        settings=expand(
            "results/rounds/{{round}}/members/{member}/model.json", member=MEMBERS
        ),
    output:
        records="results/rounds/{round}/validation.parquet",
    log:
        "logs/validate_round/{round}.log",
    benchmark:
        "benchmarks/validate_round/{round}.tsv"
    conda:
        "../envs/forcefield.yaml"
    threads: 1
    resources:
        mem_mb=NEEDS.memory("validate_round"),
        runtime=NEEDS.runtime("validate_round"),
        gpu=NEEDS.gpus("validate_round"),
        device=config["force_model"]["device"],
    params:
        code=code_of("scripts/validate_round.py", MODEL_CODE),
    script:
        "../scripts/validate_round.py"


rule publish_model:
    """The committee of the last round, with its card."""
    input:
        weights=expand(
            "results/rounds/{round}/members/{member}/model.safetensors",
            round=LAST_ROUND,
            member=MEMBERS,
        ),
        settings=expand(
            "results/rounds/{round}/members/{member}/model.json",
            round=LAST_ROUND,
            member=MEMBERS,
        ),
        dataset=f"results/rounds/{LAST_ROUND}/dataset.h5",
        dataset_table=f"results/rounds/{LAST_ROUND}/dataset.parquet",
        validation=f"results/rounds/{LAST_ROUND}/validation.parquet",
    output:
        weights=expand("results/model/member{member}.safetensors", member=MEMBERS),
        settings="results/model/model.json",
        card=report(
            "results/model/card.md",
            caption="../report/model.rst",
            category="Model",
            labels={"page": "model card"},
        ),
    log:
        "logs/publish_model.log",
    benchmark:
        "benchmarks/publish_model.tsv"
    conda:
        "../envs/forcefield.yaml"
    threads: 1
    resources:
        mem_mb=NEEDS.memory("publish_model"),
        runtime=NEEDS.runtime("publish_model"),
    params:
        code=unwatched(code_of("scripts/publish_model.py", MODEL_CODE)),
        licence=unwatched(
            "not chosen yet: that of the labels (see Data) and the choice of who ran the study"
        ),
    script:
        "../scripts/publish_model.py"


rule predict_forces:
    """Forces of the published model on every displaced supercell of one shard."""
    input:
        supercells="results/supercells/{shard}.h5",
        records="results/supercells/{shard}.parquet",
        model="results/model/model.json",
        weights=expand("results/model/member{member}.safetensors", member=MEMBERS),
    output:
        arrays="results/predicted/{shard}.h5",
        records="results/predicted/{shard}.parquet",
    log:
        "logs/predict_forces/{shard}.log",
    benchmark:
        "benchmarks/predict_forces/{shard}.tsv"
    conda:
        "../envs/forcefield.yaml"
    threads: 1
    resources:
        mem_mb=NEEDS.memory("predict_forces"),
        runtime=NEEDS.runtime("predict_forces"),
        gpu=NEEDS.gpus("predict_forces"),
        device=config["force_model"]["device"],
    params:
        code=code_of("scripts/predict_forces.py", MODEL_CODE),
    script:
        "../scripts/predict_forces.py"
