from ..core.operation import linear
from ..core.protocol import implements
import numpy as np
s=linear("sum", np.sum, lambda ct, of: np.broadcast_to(ct, of.shape))
@implements(np.sum)
def sum_(x, **k): return s(x)
