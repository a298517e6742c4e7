TABLES_OF = {
    "figure2": ["phonons", "dispersions", "transport"],
    "figure3": ["transport"],
    "figure4": ["transport"],
    "figure5": ["bonding"],
    "figure6": ["transport"],
    "figure7": ["modes", "transport"],
    "figureS1": ["timings"],
    "figureS2": ["rounds", "histories"],
    "figureS3": ["force_errors", "force_components"],
    "figureS4": ["elements"],
    "figureS5": ["embedding", "transport"],
    "figureS6": ["transport"],
}


rule draw_figure:
    """One figure of the paper, from tables only."""
    input:
        unpack(tables_of),
    output:
        pdf="results/figures/{figure}.pdf",
        png="results/figures/{figure}.png",
        caption="results/figures/{figure}.md",
    log:
        "logs/draw_figure/{figure}.log",
    benchmark:
        "benchmarks/draw_figure/{figure}.tsv"
    conda:
        "../envs/analysis.yaml"
    params:
        code=code_of_figure,
        engine=config["reference"]["engine"],
        model=REFERENCE["model"],
        bonding_engine=config["bonding"]["engine"],
        temperature_k=config["transport"]["temperature_k"],
    script:
        "../scripts/draw_{wildcards.figure}.py"
