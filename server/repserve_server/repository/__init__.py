"""The model repository: its folders, versions and files; each format has its one reader here."""
