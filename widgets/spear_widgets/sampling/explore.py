"""What notebook 03 shows and calls, under one name."""

from spear_widgets.kit.base import Picture
from spear_widgets.kit.machine.machine import Machine
from spear_widgets.kit.riddle import riddle
from spear_widgets.kit.scene import scene
from spear_widgets.sampling.candidate import candidates
from spear_widgets.sampling.collecting import KINDS, CollectExplorer, batch_of_kind, collect, search_draws
from spear_widgets.sampling.draws import DrawExplorer
from spear_widgets.sampling.stages import StageExplorer
from spear_widgets.sampling.threshold import ThresholdExplorer, fresh_shares, rejections


def title_picture() -> Picture:
    """The factor L of a batch of eight: which rows belong together?"""
    factor = scene("photos", 8, 200).low_rank.factor
    words = (
        "The factor L of eight photographs, one column a unit. Which seven "
        "columns are silent for one photograph?"
    )
    return riddle(factor.T, words)
