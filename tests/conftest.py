"""For every test: torch is there from the start.

Where it is not, plans read models' settings with placeholders for torch (`medrec.light`); the
shape checks that tests switch on would remember those placeholders as the types of tensors. What
happens without torch is tested in processes of its own.
"""

import torch

# Tests run in a process a core: more threads each would only wait for one another.
torch.set_num_threads(1)
