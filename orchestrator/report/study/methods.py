"""The methods text of what concerns a study as a whole: only what was done."""

from __future__ import annotations

from orchestrator.report.study.values import Study


def study_methods(study: Study) -> tuple[str, ...]:
    """Return the paragraphs on comparisons of the study as a whole."""
    said: list[str] = []
    if study.curve_differences:
        said.append(_curves())
    if study.variance_splits:
        said.append(_splits())
    if study.pairs:
        said.append(
            "All pairs of arms with replicates, floors aside, are compared with p values adjusted by max-t (Westfall & Young, step-down) "
            "over the pairs and numbers of labels of a test set; how they depend on each other is taken from influence values and from "
            "shared draws. The best arm is set against the rest in no other way."
        )
    if study.groups:
        said.append(
            "The best arm of a group is chosen in every replicate by its validation metric (ties: the first arm), and the chosen runs are "
            "analysed as one arm whose draws are those of the study: new draws go through the choice again. A replicate in which an arm of "
            "the group is missing is left out. p values are adjusted by Holm over the pairs of groups and numbers of labels of a test set."
        )
    if study.ranks:
        said.append(
            "Places of arms come from the crossed bootstrap: in each resample patients, and the draws of each arm, are drawn again (draws "
            "that all arms share are drawn together), and the arms are ordered by what they then score; ties share places. Places are a "
            "view and test nothing."
        )
    if study.borrowed:
        said.append(
            "A lone run has an interval over patients alone. The borrowed interval adds the draw component, max(MS − (Var − Cov), 0), of "
            "the largest smaller number of labels of the same arm that has replicates, with Satterthwaite's degrees of freedom. It assumes "
            "that draws spread no more with more labels, and stands beside the run's own interval and never in its place; nothing is "
            "tested with it."
        )
    if study.averages:
        said.append(
            "The average over test sets is formed within each replicate, with equal weights, from its values on all of them, and "
            "replicates are analysed as on one test set. Variances over patients add with weights 1/K²; patients whose ids are equal are "
            "one cluster of all test sets (ids that are equal by chance add no bias). The bootstrap beside it resamples the patients "
            "of each test set by themselves, those of test sets with common patients as one population, and draws once for all. A "
            "replicate that a test set lacks is in no average. p values are adjusted by Holm within each contrast; test sets are "
            "otherwise families of their own."
        )
    if study.margins:
        said.append(
            "Equivalence is two one-sided tests (Schuirmann) with the standard error and the degrees of freedom of the headline analysis; "
            "p values of equivalence, and those of not being worse, are adjusted by Holm over the differences of one contrast."
        )
    return tuple(said)


def _curves() -> str:
    return (
        "Whole curves are compared chain by chain: a replicate is followed through every number of labels at which both arms have two runs "
        "and more, an area or a slope over the logarithm of the number of labels is one number a chain, and chains and patients are "
        "analysed as draws and patients are. Areas are trapezoids over the span; p values of areas, and those of trends, are adjusted by "
        "Holm over the arms of one contrast. The label-equivalence factor is where the monotone fit (pool adjacent violators) of the "
        "baseline's mean curve reaches the arm's mean; its interval holds every factor at which the difference is not ruled out "
        "(Fieller), and is open where that lies beyond the numbers of labels that were tried. Nothing is extrapolated."
    )


def _splits() -> str:
    return (
        "The variance of one replicate is split into a part of the draw, max(MS − (Var − Cov), 0), of the patients, max(Cov, 0), and of "
        "both, max(Var − Cov, 0), in the terms of Obuchowski and Rockette. A forecast divides the first and the last by the number of "
        "draws and the last two by the multiple of patients, and takes Hillis's degrees of freedom. It holds for draws and patients alone: "
        "another pretraining is another source."
    )
