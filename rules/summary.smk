rule write_summary:
    """The paper's numbers beside this run's, for a reader."""
    input:
        filter_records="results/structures/filter_records.parquet",
        table1="results/tables/table1.parquet",
        status="results/tables/status.parquet",
        timings="results/tables/timings.parquet",
        phonons="results/tables/phonons.parquet",
        transport="results/tables/transport.parquet",
        modes="results/tables/modes.parquet",
        bonding="results/tables/bonding.parquet",
        bonds="results/tables/bonds.parquet",
        rounds="results/tables/rounds.parquet",
        round_errors="results/tables/round_errors.parquet",
        histories="results/tables/histories.parquet",
        force_errors="results/tables/force_errors.parquet",
        check_supercell_size="results/checks/supercell_size.parquet",
        check_transport="results/checks/transport.parquet",
        check_force_constants="results/checks/force_constants.parquet",
        figures=expand("results/figures/{figure}.png", figure=FIGURES),
        captions=expand("results/figures/{figure}.md", figure=FIGURES),
        numbers=local(f"{RESOURCES}/published/numbers.yaml"),
        dft=local(f"{RESOURCES}/dft_comparison.yaml"),
        screened=local(f"{RESOURCES}/screening/screening.parquet"),
        confirmed=local(f"{RESOURCES}/screening/confirmation.csv"),
        outdated="results/outdated.json",
        pretrained=model_before,
        compounds=compounds_before,
        contradictions=local(f"{RESOURCES}/published/contradictions.yaml"),
    output:
        markdown="results/summary.md",
        html=report(
            "results/summary.html",
            caption="../report/summary.rst",
            category="Summary",
            labels={"page": "summary"},
        ),
        headline="results/tables/headline.parquet",
        headline_csv=report(
            "results/tables/headline.csv",
            caption="../report/table.rst",
            category="Tables",
            labels={"table": "headline"},
        ),
    log:
        "logs/write_summary.log",
    benchmark:
        "benchmarks/write_summary.tsv"
    conda:
        "../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=NEEDS.memory("write_summary"),
        runtime=NEEDS.runtime("write_summary"),
    params:
        code=code_of("scripts/write_summary.py"),
        engine=config["reference"]["engine"],
        model=REFERENCE["model"],
        bonding_engine=config["bonding"]["engine"],
        displacement_angstrom=config["supercell"]["displacement_angstrom"],
        threshold_mev_per_angstrom=config["active_learning"][
            "threshold_mev_per_angstrom"
        ],
    script:
        "../scripts/write_summary.py"
