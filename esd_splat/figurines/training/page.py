"""The page about a trained teacher that lies beside its weights."""

from typing import Any

ROW = "| {} |".format


def page(measured: dict[str, Any]) -> str:
    """What ``train_report`` measured, as Markdown."""
    guided, plain, judge = measured["guided"], measured["unguided"], measured["judge"]
    poses, words = measured["poses"], measured["view_words"]
    scale = f"{guided['guidance_scale']:g}"
    lines = [
        "# The embedded figurine teacher",
        "",
        "A small Stable-Diffusion-like model of figurines, in the ordinary diffusers layout. "
        "`vocabulary.json` lists every word it knows and the recipe it was trained with.",
        "",
        "![one sample per prompt](samples.png)",
        "",
        f"*One sample per prompt at guidance {scale}: kinds down, colours across.*",
        "",
        _training(measured["recipe"]),
        "",
        f"Measured {measured['date']} with `{measured['command']}` ({measured['machine']}, "
        f"{measured['seconds']} s): {measured['samples_per_prompt']} samples per prompt, "
        f"{measured['steps']} DDIM steps, seed {measured['seed']}.",
        "",
        "## Does it draw what it is told?",
        "",
        "Share of samples whose nearest template, over all kinds, colours and views, is of the "
        "prompt's kind and colour.",
        "",
        *_table(
            ["", f"guidance {scale}", "guidance 1"],
            [
                ["all prompts", guided["recognised"], plain["recognised"]],
                ["pairs it was trained on", guided["trained_pairs"], plain["trained_pairs"]],
                ["pairs held out", guided["held_out_pairs"], plain["held_out_pairs"]],
                ["kind alone", guided["kind_right"], plain["kind_right"]],
                ["colour alone", guided["colour_right"], plain["colour_right"]],
                *([k, guided["kinds"][k], plain["kinds"][k]] for k in guided["kinds"]),
                *([c, guided["colours"][c], plain["colours"][c]] for c in guided["colours"]),
                *(
                    [f"held out: {p}", guided["held_out"][p], plain["held_out"][p]]
                    for p in guided["held_out"]
                ),
            ],
        ),
        "",
        "## From where does it look?",
        "",
        f"Without a view word, guidance 1: {poses['within_45_of_front']:.3f} within 45 degrees of "
        f"the front (training photographs: {poses['within_45_of_front_in_training']:.3f}). Total "
        f"variation to the training poses over 30-degree bins: {poses['total_variation']:.3f} "
        f"(chance alone, as many draws of the training distribution: "
        f"{poses['total_variation_by_chance']:.3f}).",
        "",
        *_table(
            ["azimuth", *(f"{centre}" for centre in poses["bin_centres_deg"]), "TV", "front"],
            [
                ["training", *poses["training"], "", poses["within_45_of_front_in_training"]],
                ["drawn", *poses["drawn"], poses["total_variation"], poses["within_45_of_front"]],
                *(
                    [kind, *row["drawn"], row["total_variation"], row["within_45_of_front"]]
                    for kind, row in poses["kinds"].items()
                ),
            ],
        ),
        "",
        f"A single kind is {poses['total_variation_by_chance_per_kind']:.3f} apart by chance.",
        "",
        "## Does it know front, side and back?",
        "",
    ]
    for name, found in words.items():
        lines += [
            f"Guidance {name}, share drawn from the view that was asked for: {found['right']:.3f}.",
            "",
            *_table(
                ["asked \\ drawn", *found["drawn"]],
                [[view, *shares.values()] for view, shares in found["drawn"].items()],
            ),
            "",
        ]
    lines += [
        "## How far the judge can be trusted",
        "",
        f"Of {judge['photographs']} true photographs from all sides, over random backgrounds, it "
        f"recognises {judge['recognised']:.3f} and names the view of {judge['view_right']:.3f}; "
        f"their azimuth it misses by {judge['azimuth_off_deg_median']:.1f} degrees in the median "
        f"and by more than 15 in {judge['azimuth_off_beyond_15_deg']:.3f} of cases (hard kinds: "
        f"{judge['azimuth_off_beyond_15_deg_hard_kinds']:.3f}). They are "
        f"{judge['rms_to_nearest_template']:.3f} from their nearest template, root mean square; "
        f"the samples are {guided['rms_to_nearest_template']:.3f} (guidance {scale}) and "
        f"{plain['rms_to_nearest_template']:.3f} (guidance 1).",
    ]
    return "\n".join(lines) + "\n"


def _training(recipe: dict[str, Any]) -> str:
    """How the weights came to be."""
    told = (
        f"Its UNet was trained for {recipe['unet_steps']} steps of {recipe['unet_batch']} of "
        f"{recipe['photos']} photographs, {recipe['front_share']:.0%} of them from within 45 "
        "degrees of the front"
    )
    if before := recipe["gone_on_from"]:
        told += f", going on (`--init`) from weights that had had {before['unet_steps']} steps"
    return told + "."


def _table(head: list[str], rows: list[list[Any]]) -> list[str]:
    cells = [[f"{c:.3f}" if isinstance(c, float) else str(c) for c in row] for row in rows]
    rule = ["---"] * len(head)
    return [ROW(" | ".join(row)) for row in (head, rule, *cells)]
