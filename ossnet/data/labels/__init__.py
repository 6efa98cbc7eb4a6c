"""What a label map means: classes, regions and the codes they are stored as."""
