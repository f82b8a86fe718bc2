"""stub"""
import json
def error_body(shape, status, message, code, extra=None):
    return "application/json", json.dumps({"error":{"message":message,"code":code,"type":code}}).encode()
def replay_miss(shape, error):
    return "application/json", json.dumps({"error":{"message":str(error),"code":"replay_miss"}}).encode()
