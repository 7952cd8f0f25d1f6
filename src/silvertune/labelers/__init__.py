"""What makes votes for items."""

from silvertune.labelers.answer_sheet import AnswerSheet
from silvertune.labelers.label_studio import LabelStudio
from silvertune.labelers.llm import FewShot, LLMLabeler
from silvertune.labelers.recorded import Recorded
from silvertune.labelers.simulated_panel import SimulatedPanel
from silvertune.labelers.tuned_model import TunedModel
from silvertune.labelers.zero_shot import ZeroShot
from silvertune.llms.questions import StorePlace

__all__ = [
    "AnswerSheet",
    "FewShot",
    "LLMLabeler",
    "LabelStudio",
    "Recorded",
    "SimulatedPanel",
    "StorePlace",
    "TunedModel",
    "ZeroShot",
]
