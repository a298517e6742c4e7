rule converge_transport:
    """Conductivity of a few structures against q mesh, broadening and third-order cutoff."""
    input:
        forces=expand(
            "results/{forces}/{shard}.h5",
            forces=FORCES[config["convergence"]["source"]],
            shard=SHARDS,
        ),
        charges=charges_of("h5", SHARDS),
        supercells=expand("results/supercells/{shard}.h5", shard=SHARDS),
        assignment=expand("results/bases/{shard}.parquet", shard=SHARDS),
    output:
        table="results/checks/convergence.parquet",
    log:
        "logs/converge_transport.log",
    benchmark:
        "benchmarks/converge_transport.tsv"
    conda:
        "../envs/checks.yaml"
    threads: 1
    resources:
        mem_mb=NEEDS.memory("converge_transport"),
        runtime=NEEDS.runtime("converge_transport"),
        matrix_mb=NEEDS.matrix_mb(),
    params:
        code=code_of("scripts/converge_transport.py"),
        convergence=config["convergence"],
        force_constants=config["force_constants"],
        transport=transport_settings(config),
    script:
        "../scripts/converge_transport.py"


rule draw_convergence:
    """Figure of the convergence of a few structures."""
    input:
        convergence="results/checks/convergence.parquet",
        outdated="results/outdated.json",
    output:
        pdf=report(
            "results/figures/convergence.pdf",
            caption="../report/figure.rst",
            category="Checks",
            labels={"figure": "convergence", "format": "PDF"},
        ),
        png=report(
            "results/figures/convergence.png",
            caption="../report/figure.rst",
            category="Checks",
            labels={"figure": "convergence", "format": "PNG"},
        ),
        caption="results/figures/convergence.md",
    log:
        "logs/draw_convergence.log",
    benchmark:
        "benchmarks/draw_convergence.tsv"
    conda:
        "../envs/analysis.yaml"
    threads: 1
    resources:
        mem_mb=NEEDS.memory("draw_convergence"),
        runtime=NEEDS.runtime("draw_convergence"),
    params:
        code=code_of("scripts/draw_figure.py", "phonoscreen/figures/convergence.py"),
        figure="convergence",
        engine=config["reference"]["engine"],
        model=REFERENCE["model"],
        bonding_engine=config["bonding"]["engine"],
        temperature_k=config["transport"]["temperature_k"],
    script:
        "../scripts/draw_figure.py"


rule convergence:
    """Target: conductivity against the choices of the calculation, table and figure."""
    input:
        rules.draw_convergence.output,
    localrule: True
