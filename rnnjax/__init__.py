"""Recurrent networks for JAX: exact layers, one-line experiments, honest results."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rnnjax.cells.base import Cell as Cell
    from rnnjax.cells.conv_lstm import ConvLSTMCell as ConvLSTMCell
    from rnnjax.cells.gru import GRUCell as GRUCell
    from rnnjax.cells.gru import GRUState as GRUState
    from rnnjax.cells.gru import MGUCell as MGUCell
    from rnnjax.cells.linear import LinearCell as LinearCell
    from rnnjax.cells.linear import LinearState as LinearState
    from rnnjax.cells.linear import MinGRUCell as MinGRUCell
    from rnnjax.cells.linear import MinLSTMCell as MinLSTMCell
    from rnnjax.cells.linear import RGLRUCell as RGLRUCell
    from rnnjax.cells.linear import positive as positive
    from rnnjax.cells.lstm import GatedLSTMState as GatedLSTMState
    from rnnjax.cells.lstm import LSTMCell as LSTMCell
    from rnnjax.cells.lstm import LSTMState as LSTMState
    from rnnjax.cells.simple import IndRNNCell as IndRNNCell
    from rnnjax.cells.simple import IRNNCell as IRNNCell
    from rnnjax.cells.simple import SimpleRNNCell as SimpleRNNCell
    from rnnjax.cells.simple import SimpleRNNState as SimpleRNNState
    from rnnjax.cells.simple import identity_init as identity_init
    from rnnjax.data.vectors import read_vectors as read_vectors
    from rnnjax.layers.combinators import Bidirectional as Bidirectional
    from rnnjax.layers.combinators import BidirectionalState as BidirectionalState
    from rnnjax.layers.combinators import Stack as Stack
    from rnnjax.layers.dropout import VariationalDropout as VariationalDropout
    from rnnjax.layers.embedding import Embedding as Embedding
    from rnnjax.layers.pooling import AttentionPooling as AttentionPooling
    from rnnjax.layers.pooling import MaxPooling as MaxPooling
    from rnnjax.layers.pooling import MeanPooling as MeanPooling
    from rnnjax.layers.recurrent import GRU as GRU
    from rnnjax.layers.recurrent import IRNN as IRNN
    from rnnjax.layers.recurrent import LSTM as LSTM
    from rnnjax.layers.recurrent import MGU as MGU
    from rnnjax.layers.recurrent import RGLRU as RGLRU
    from rnnjax.layers.recurrent import RNN as RNN
    from rnnjax.layers.recurrent import ConvLSTM as ConvLSTM
    from rnnjax.layers.recurrent import IndRNN as IndRNN
    from rnnjax.layers.recurrent import MinGRU as MinGRU
    from rnnjax.layers.recurrent import MinLSTM as MinLSTM
    from rnnjax.layers.recurrent import SimpleRNN as SimpleRNN
    from rnnjax.models.summary import summary as summary
    from rnnjax.regularizers import activation_penalty as activation_penalty
    from rnnjax.regularizers import constrain as constrain
    from rnnjax.regularizers import max_norm as max_norm
    from rnnjax.regularizers import min_max_norm as min_max_norm
    from rnnjax.regularizers import temporal_activation_penalty as temporal_activation_penalty
    from rnnjax.regularizers import unit_norm as unit_norm
    from rnnjax.regularizers import weight_penalty as weight_penalty

__version__ = "0.1.0"

# Modules are imported when a name is first used, so that the command line answers --help and --list at once.
_HOMES = {
    "rnnjax.cells.base": ("Cell",),
    "rnnjax.cells.conv_lstm": ("ConvLSTMCell",),
    "rnnjax.cells.gru": ("GRUCell", "GRUState", "MGUCell"),
    "rnnjax.cells.linear": ("LinearCell", "LinearState", "MinGRUCell", "MinLSTMCell", "RGLRUCell", "positive"),
    "rnnjax.cells.lstm": ("GatedLSTMState", "LSTMCell", "LSTMState"),
    "rnnjax.cells.simple": ("IRNNCell", "IndRNNCell", "SimpleRNNCell", "SimpleRNNState", "identity_init"),
    "rnnjax.data.vectors": ("read_vectors",),
    "rnnjax.layers.combinators": ("Bidirectional", "BidirectionalState", "Stack"),
    "rnnjax.layers.embedding": ("Embedding",),
    "rnnjax.layers.recurrent": (
        "GRU",
        "IRNN",
        "LSTM",
        "MGU",
        "RGLRU",
        "RNN",
        "ConvLSTM",
        "IndRNN",
        "MinGRU",
        "MinLSTM",
        "SimpleRNN",
    ),
    "rnnjax.layers.dropout": ("VariationalDropout",),
    "rnnjax.layers.pooling": ("AttentionPooling", "MaxPooling", "MeanPooling"),
    "rnnjax.models.summary": ("summary",),
    "rnnjax.regularizers": (
        "activation_penalty",
        "constrain",
        "max_norm",
        "min_max_norm",
        "temporal_activation_penalty",
        "unit_norm",
        "weight_penalty",
    ),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}
__all__ = sorted(_HOME_OF)


def __getattr__(name: str) -> Any:
    """Import the module that a public name lives in."""
    if name not in _HOME_OF:
        raise AttributeError(f"module 'rnnjax' has no attribute {name!r}")
    value = getattr(import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*globals(), *__all__]
