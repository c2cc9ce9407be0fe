"""Images to explain: LightningDataModules without labels."""
