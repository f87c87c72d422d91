"""Zero-shot semantic segmentation: top-down grouping, mIoU."""
