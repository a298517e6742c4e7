rule manifest:
    """Target: the manifest, which says what structures added to a finished study will cost."""
    input:
        "results/structures/manifest.parquet",
    localrule: True


rule structures:
    """Target: the manifest and the relaxed structures."""
    input:
        "results/structures/manifest.parquet",
        expand("results/relaxed/{shard}.extxyz", shard=SHARDS),
    localrule: True


rule calculations:
    """Target: the list of all calculations of a DFT code before any selection, and their inputs where they wait."""
    input:
        rules.list_calculations.output,
    localrule: True


rule labels:
    """Target: reference forces of the displaced supercells."""
    input:
        expand("results/checked_labels/{shard}.h5", shard=SHARDS),
    localrule: True


rule model:
    """Target: the published committee and its card."""
    input:
        rules.publish_model.output,
    localrule: True


rule force_constants:
    """Target: force constants from reference and from predicted forces."""
    input:
        expand(
            "results/force_constants/{source}/{shard}.h5", source=SOURCES, shard=SHARDS
        ),
    localrule: True


rule transport:
    """Target: phonon properties and thermal conductivities of both sources."""
    input:
        expand("results/transport/{source}/{shard}.h5", source=SOURCES, shard=SHARDS),
    localrule: True


rule bonding:
    """Target: bonding and antibonding of the structures."""
    input:
        expand("results/bonding/{shard}.parquet", shard=SHARDS),
    localrule: True


rule table1:
    """Target: Table 1."""
    input:
        rules.tabulate_table1.output,
    localrule: True


for figure in FIGURES:

    rule:
        """Target: one figure."""
        name:
            figure
        input:
            expand(
                "results/figures/{figure}.{suffix}",
                figure=figure,
                suffix=["pdf", "png", "md"],
            ),
        localrule: True


rule summary:
    """Target: the paper's numbers beside this run's."""
    input:
        "results/summary.md",
        "results/summary.html",
    localrule: True
