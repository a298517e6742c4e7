"""The enumerated pool through all stages with the forces of a published model (docs/screen.md)."""

SCREENED = config["screening"]
BLOCKS = shard_names(SCREENED["blocks"])
FIRST_BLOCKS = BLOCKS[: SCREENED["first"]]
# The order reads these as known compounds, and the labelled ones for the part of each compound.
KNOWN_POOLS = [f"{RESOURCES}/pool.csv", f"{RESOURCES}/experiment_pool.csv"]
# The compounds of figure 7, so that every beginning of a screening has them.
FIGURE7 = ["nakas-216", "kircs2cl6-225", "cupdsr2-216"]


wildcard_constraints:
    block=r"\d{4}",


def published_model(wildcards):
    """Files of the model that gives the forces."""
    folder = Path(SCREENED["model"])
    if not folder.is_absolute() and not folder.is_dir():
        folder = ROOT / folder
    # Forces depend on the weights alone: what model.json says of them may change, such as their calibration.
    return [
        ancient(f"{folder}/model.json"),
        *sorted(map(str, folder.glob("*.safetensors"))),
    ]


rule order_pool:
    """The pool in an order in which every block has the classes in the pool's proportion."""
    input:
        rules=f"{RESOURCES}/enumeration.yaml",
        sizes=f"{RESOURCES}/published/table1.yaml",
        known=KNOWN_POOLS,
        labels=f"{RESOURCES}/labels/teacher_labels.h5",
    output:
        pool="results/screening/pool.parquet",
    log:
        "logs/order_pool.log",
    benchmark:
        "benchmarks/order_pool.tsv"
    conda:
        "../envs/structures.yaml"
    threads: 1
    resources:
        mem_mb=NEEDS.memory("order_pool"),
        runtime=NEEDS.runtime("order_pool"),
    params:
        code=code_of("scripts/order_pool.py"),
        blocks=SCREENED["blocks"],
        first=FIGURE7,
        seed=config["seed"],
    script:
        "../scripts/order_pool.py"


rule screen_block:
    """Relaxation, forces, force constants, stability and conductivity of the structures of one block."""
    input:
        pool="results/screening/pool.parquet",
        model=published_model,
        prototypes=f"{RESOURCES}/prototypes.yaml",
    output:
        records="results/screening/blocks/{block}.parquet",
        origin="results/screening/blocks/{block}.json",
    log:
        "logs/screen_block/{block}.log",
    benchmark:
        "benchmarks/screen_block/{block}.tsv"
    conda:
        "../envs/checks.yaml"
    threads: 1
    resources:
        mem_mb=NEEDS.memory("screen_block"),
        runtime=NEEDS.runtime("screen_block"),
        gpu=NEEDS.gpus("screen_block"),
        device=config["force_model"]["device"],
    params:
        code=code_of("scripts/screen_block.py", MODEL_CODE),
        settings={
            name: config[name]
            for name in (
                "seed",
                "filter",
                "relax",
                "supercell",
                "force_constants",
                "stability",
                "transport",
            )
        },
    script:
        "../scripts/screen_block.py"


rule gather_screening:
    """One table of all structures of the blocks, with its origin."""
    input:
        records=expand("results/screening/blocks/{block}.parquet", block=FIRST_BLOCKS),
        origins=expand("results/screening/blocks/{block}.json", block=FIRST_BLOCKS),
        pool="results/screening/pool.parquet",
        model=lambda wildcards: str(published_model(wildcards)[0]),
    output:
        table="results/screening/screening.parquet",
    log:
        "logs/gather_screening.log",
    benchmark:
        "benchmarks/gather_screening.tsv"
    conda:
        "../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=NEEDS.memory("gather_screening"),
        runtime=NEEDS.runtime("gather_screening"),
    params:
        code=code_of("scripts/gather_screening.py"),
    script:
        "../scripts/gather_screening.py"


rule screening:
    """Target: the table of the screening."""
    input:
        rules.gather_screening.output,
    localrule: True
