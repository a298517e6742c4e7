"""Figures, drawn from tables only."""


rule draw_figure:
    """One figure of the paper, from tables only."""
    input:
        unpack(tables_of),
        outdated="results/outdated.json",
    output:
        pdf=report(
            "results/figures/{figure}.pdf",
            caption="../report/figure.rst",
            category="Figures",
            labels={"figure": "{figure}", "format": "PDF"},
        ),
        png=report(
            "results/figures/{figure}.png",
            caption="../report/figure.rst",
            category="Figures",
            labels={"figure": "{figure}", "format": "PNG"},
        ),
        caption="results/figures/{figure}.md",
    log:
        "logs/draw_figure/{figure}.log",
    benchmark:
        "benchmarks/draw_figure/{figure}.tsv"
    conda:
        "../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=NEEDS.memory("draw_figure"),
        runtime=NEEDS.runtime("draw_figure"),
    params:
        code=code_of_figure,
        figure="{figure}",
        engine=config["reference"]["engine"],
        model=REFERENCE["model"],
        bonding_engine=config["bonding"]["engine"],
        temperature_k=config["transport"]["temperature_k"],
    script:
        "../scripts/draw_figure.py"
