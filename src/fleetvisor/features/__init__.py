"""The domain, by feature. Imports run one way: devices, updates, apps | configs | logs, accounts, events."""
