"""What each choice of the force models is worth (docs/force_models.md)."""

from phonoscreen.workflow.experiment import ablations

ABLATIONS = ablations(config)


rule ablate_model:
    """One change of a force model: trained on the data of round 0, judged on its held-out structures."""
    input:
        dataset="results/rounds/0/dataset.h5",
    output:
        table="results/ablation/{number}.parquet",
    log:
        "logs/ablate_model/{number}.log",
    benchmark:
        "benchmarks/ablate_model/{number}.tsv"
    conda:
        "../envs/forcefield.yaml"
    threads: 1
    resources:
        mem_mb=NEEDS.memory("ablate_model"),
        runtime=NEEDS.runtime("ablate_model"),
        gpu=NEEDS.gpus("ablate_model"),
        device=config["force_model"]["device"],
    params:
        code=code_of("scripts/ablate_model.py"),
        training=lambda wildcards: ABLATIONS[int(wildcards.number)],
        seed=config["seed"],
    script:
        "../scripts/ablate_model.py"


rule tabulate_ablation:
    """What each choice of the force models is worth."""
    input:
        expand("results/ablation/{number}.parquet", number=range(len(ABLATIONS))),
    output:
        ablation="results/tables/ablation.parquet",
        ablation_csv=report(
            "results/tables/ablation.csv",
            caption="../report/table.rst",
            category="Experiment",
            labels={"figure": "ablation", "format": "CSV"},
        ),
    log:
        "logs/tabulate_ablation.log",
    benchmark:
        "benchmarks/tabulate_ablation.tsv"
    conda:
        "../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=NEEDS.memory("tabulate_ablation"),
        runtime=NEEDS.runtime("tabulate_ablation"),
    params:
        code=code_of("scripts/tabulate_ablation.py"),
    script:
        "../scripts/tabulate_ablation.py"


rule ablation:
    """Target: the table of the ablation."""
    input:
        rules.tabulate_ablation.output,
    localrule: True
