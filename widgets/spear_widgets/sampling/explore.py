"""What notebook 03 shows and calls, under one name."""

from spear_widgets.kit.machine.machine import Machine
from spear_widgets.sampling.candidate import candidates
from spear_widgets.sampling.collecting import KINDS, CollectExplorer, batch_of_kind, collect, search_draws
from spear_widgets.sampling.draws import DrawExplorer
from spear_widgets.sampling.stages import StageExplorer
from spear_widgets.sampling.threshold import ThresholdExplorer, fresh_shares
