"""Digits with Lightning: the service starts every rank, so the Trainer is told how many there are on each node."""

import os
from pathlib import Path

import lightning
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Digits(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.network = nn.Sequential(nn.Linear(64, 96), nn.ReLU(), nn.Linear(96, 10))

    def training_step(self, batch, _):
        pixels, labels = batch
        return nn.functional.cross_entropy(self.network(pixels), labels)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.15, momentum=0.9)


torch.set_num_threads(1)
lightning.seed_everything(0)
digits = load_digits()
x_train, x_test, y_train, y_test = train_test_split(
    digits.data / 16.0, digits.target, test_size=0.25, random_state=7, stratify=digits.target
)
images = TensorDataset(torch.tensor(x_train, dtype=torch.float32), torch.tensor(y_train))
here, ranks = int(os.environ["LOCAL_WORLD_SIZE"]), int(os.environ["WORLD_SIZE"])
trainer = lightning.Trainer(
    num_nodes=ranks // here,
    devices=here,
    accelerator="auto",
    strategy="ddp",
    max_epochs=25,
    logger=False,
    enable_checkpointing=False,
    enable_progress_bar=False,
)
model = Digits()
trainer.fit(model, DataLoader(images, batch_size=32, shuffle=True, drop_last=True))
if trainer.is_global_zero:
    x_test, y_test = torch.tensor(x_test, dtype=torch.float32), torch.tensor(y_test)
    accuracy = (model.network.cpu()(x_test).argmax(1) == y_test).float().mean().item()
    torch.save(model.network.state_dict(), Path(os.environ["AZ_BATCHAI_OUTPUT_MODEL"]) / "digits.pt")
    print(f"final test accuracy {accuracy:.4f} of {ranks} ranks", flush=True)
# DDP over gloo is known to abort when the interpreter ends: all is written, so the process ends here.
torch.distributed.barrier()
os._exit(0)
