"""Digits with Hugging Face Accelerate: the same script runs alone, or once per rank on several nodes."""

import gc
import os
from pathlib import Path

import torch
from accelerate import Accelerator
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def main():
    torch.set_num_threads(1)
    torch.manual_seed(0)
    accelerator = Accelerator()
    digits = load_digits()
    x_train, x_test, y_train, y_test = train_test_split(
        digits.data / 16.0, digits.target, test_size=0.25, random_state=7, stratify=digits.target
    )
    images = TensorDataset(torch.tensor(x_train, dtype=torch.float32), torch.tensor(y_train))
    x_test, y_test = torch.tensor(x_test, dtype=torch.float32), torch.tensor(y_test)

    network = nn.Sequential(nn.Linear(64, 96), nn.ReLU(), nn.Linear(96, 10))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.15, momentum=0.9)
    model, optimizer, loader = accelerator.prepare(
        network, optimizer, DataLoader(images, batch_size=32, shuffle=True, drop_last=True)
    )
    measure = nn.CrossEntropyLoss()
    for epoch in range(1, 31):
        total = 0.0
        for pixels, labels in loader:
            optimizer.zero_grad()
            loss = measure(model(pixels), labels)
            accelerator.backward(loss)
            optimizer.step()
            total += loss.item()
        if epoch % 10 == 0:
            accelerator.print(f"epoch {epoch:3d}  loss {total / len(loader):.4f}", flush=True)
    if accelerator.is_main_process:
        trained = accelerator.unwrap_model(model).cpu()
        accuracy = (trained(x_test).argmax(1) == y_test).float().mean().item()
        torch.save(trained.state_dict(), Path(os.environ["AZ_BATCHAI_OUTPUT_MODEL"]) / "digits.pt")
        print(f"final test accuracy {accuracy:.4f} of {accelerator.num_processes} ranks", flush=True)

    # gloo's threads must be gone before the interpreter ends: DDP over gloo is known to abort at exit otherwise.
    accelerator.wait_for_everyone()
    accelerator.free_memory()
    del model, network, optimizer, loader, loss
    gc.collect()
    accelerator.end_training()


main()
